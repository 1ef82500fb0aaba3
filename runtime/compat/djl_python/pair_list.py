"""`from djl_python.pair_list import PairList`. The class is the runtime's own."""

from heavylift_runtime.engines.handler import PairList

__all__ = ["PairList"]
