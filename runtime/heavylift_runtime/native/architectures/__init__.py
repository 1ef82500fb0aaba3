"""The forward pass of each model family, one file per family.

Not its table of weights: that is families/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from heavylift_runtime.families import family_of
from heavylift_runtime.families.t5 import T5, Shape
from heavylift_runtime.native.architectures.t5 import T5Model
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.generate import Decoding
from heavylift_runtime.native.loader import Weights


class Model(Protocol):
    """One rank's part of an encoder-decoder model."""

    def begin(self, ids: Tensor, lengths: Tensor, start: int) -> Decoding:
        """Reads the source texts, ids (B, S) of the given lengths (B,); the answers begin with token `start`."""


def model_of(config: Mapping[str, Any], weights: Weights, group: Group) -> Model:
    """Builds the forward pass of config.json's family from its weights."""
    family = family_of(config)
    assert isinstance(family, T5), f"{family.title} has no forward pass"
    return T5Model(Shape.of(config), weights, group)
