"""The model file: its fields, its faults with line and column, its JSON Schema. Not what follows from it: the plan."""

from heavylift.spec.layers import environments
from heavylift.spec.model import ModelSpec
from heavylift.spec.schema import schema

__all__ = ["ModelSpec", "environments", "schema"]
