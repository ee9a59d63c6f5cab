"""The convolution: its definition, every road from it to GEMM, and its filters."""
