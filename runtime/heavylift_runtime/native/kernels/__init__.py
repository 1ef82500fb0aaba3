"""C for what PyTorch has no fast kernel for: products of few rows, norms, one token's attention; and a file's pieces.

Not needed: where there is no compiler, or an older processor, PyTorch's own kernels do the same more slowly.
"""
