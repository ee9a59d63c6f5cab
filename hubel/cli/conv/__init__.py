"""The convolution, opened: its arithmetic, filters, every road to GEMM, and their speed here."""
