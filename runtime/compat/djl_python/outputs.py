"""`from djl_python.outputs import Output`. The class is the runtime's own."""

from heavylift_runtime.engines.handler import Output

__all__ = ["Output"]
