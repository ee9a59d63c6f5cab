"""The ways to compute a convolution, one a file; siblings never import each other."""
