"""NeuronCores as far as a library's caller can tell: compiled shapes, a cache by slot and place. No keys, no values.

The cache holds tokens; scores are transformers' own, of what the cache holds of a row. So a caller who lets a row be
overwritten, or counts its places wrongly, gets other tokens, as on the device.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

DEGREES = (1, 2, 4, 8, 12, 16, 24, 32, 64)
compilations: list[str] = []
"""The names of all that was compiled by this process."""


def opened(place: str, dtype: torch.dtype) -> Any:
    """The checkpoint, computing in `dtype`."""
    model = transformers.AutoModelForCausalLM.from_pretrained(place, dtype=dtype)
    return model.eval()


def rounded(model: Any) -> None:
    """Linear weights as 8-bit numbers with a scale for each output."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                scale = module.weight.abs().amax(1, keepdim=True).clamp(min=1e-9) / 127
                module.weight.copy_((module.weight / scale).round() * scale)


class Cache:
    """Which token each place of each slot was computed from."""

    def __init__(self, slots: int, places: int) -> None:
        self.slots, self.places = slots, places
        self._tokens = torch.zeros(slots, places, dtype=torch.long)

    def write(self, slot: int, place: int, token: int) -> None:
        if not 0 <= slot < self.slots:
            raise IndexError(f"slot {slot} of a batch that was compiled for {self.slots}")
        if not 0 <= place < self.places:
            raise IndexError(f"place {place} of a cache that was compiled for {self.places}")
        self._tokens[slot, place] = token

    def clear(self) -> None:
        self._tokens.zero_()

    def scores(self, model: Any, slot: int, first: int, last: int) -> Tensor:
        """After the tokens from place `first` to place `last`."""
        with torch.inference_mode():
            return model(input_ids=self._tokens[slot : slot + 1, first : last + 1]).logits[0, -1]


def kernels(shapes: dict[str, Any], lengths: list[int]) -> list[str]:
    """The names of the files that the compiler makes: one for each length, by the hash of what it is given."""
    texts = [json.dumps({**shapes, "length": each}, sort_keys=True) for each in lengths]
    return [f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.neff" for text in texts]


def compiled(names: list[str]) -> dict[str, bytes]:
    """From the persistent cache, or made now and put there."""
    place = os.environ.get("NEURON_COMPILE_CACHE_URL")
    made = {}
    for name in names:
        path = None if place is None else Path(place) / name
        if path is None or not path.is_file():
            compilations.append(name)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(name.encode())
        made[name] = name.encode()
    return made
