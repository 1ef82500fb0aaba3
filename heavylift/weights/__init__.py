"""The model's weights: what they are (for the lock), and their way into S3. Not what they mean: that is the plan."""

from heavylift.weights.inspect import inspect

__all__ = ["inspect"]
