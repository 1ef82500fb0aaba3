"""What one copy of a model asks of its ranks, before any instance is looked at. Not the ledger of an instance."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
MIB = 2**20
BYTES_PER_ELEMENT = {"fp32": 4, "fp16": 2, "bf16": 2}
SCRIPT_WORKING_SHARE = 0.25  # of the weights, for a script's activations


@dataclass(frozen=True)
class Need:
    """Bytes on the fullest rank; `loading` is what the allocator keeps once the weights are in."""

    weights: int
    weights_formula: str
    cache: int
    cache_formula: str
    activations: int
    activations_formula: str
    loading: int = 0
    loading_formula: str = ""


def script_need(weights: int, ranks: int) -> Need:
    """A script: nothing is known but the size of its files."""
    share = -(-weights // ranks)
    return Need(
        weights=share,
        weights_formula=f"{weights} bytes of files / {ranks}",
        cache=0,
        cache_formula="counted with the activations",
        activations=int(share * SCRIPT_WORKING_SHARE),
        activations_formula=f"{SCRIPT_WORKING_SHARE} of the weights, assumed",
    )
