"""The import name that LMI's scripts expect: `from djl_python import Input, Output`. Not upstream's package."""

from heavylift_runtime.engines.handler import Input, Output, PairList

__all__ = ["Input", "Output", "PairList"]
