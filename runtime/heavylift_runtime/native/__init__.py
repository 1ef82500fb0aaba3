"""Heavylift's own engine: checkpoint reading, tensor-parallel loading, forward passes, decoding.

Not a server, and no HTTP.
"""
