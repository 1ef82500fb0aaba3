"""`from djl_python.inputs import Input`. The class is the runtime's own."""

from heavylift_runtime.engines.handler import Input

__all__ = ["Input"]
