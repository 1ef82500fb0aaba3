"""A sandbox for templates that other people wrote: what they may do, and until when. Not the templates."""

from heavylift_runtime.server.sandbox.environment import Sandbox
from heavylift_runtime.server.sandbox.meter import Costly

__all__ = ["Costly", "Sandbox"]
