"""C for what PyTorch has no fast kernel for: products of few rows, norms, and one token's attention.

Not needed: where there is no compiler, or an older processor, PyTorch's own kernels do the same more slowly.
"""
