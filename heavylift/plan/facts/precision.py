"""Which number formats and quantizations a generation of accelerators runs, and how. Not whether an engine has them."""

from __future__ import annotations

from functools import cache
from typing import Literal

from heavylift.plan.facts.accelerator import Accelerator
from heavylift.plan.facts.table import rows

Support = Literal["native", "weights", "no", "unknown"]
"""native: computed in it; weights: stored in it, computed in 16 bits; no: refused; unknown: nothing is published."""

_SUPPORT: dict[str, Support] = {"native": "native", "weights": "weights", "no": "no", "unknown": "unknown"}


@cache
def precisions() -> dict[str, dict[str, Support]]:
    """Scheme → generation → support."""
    return {
        row["scheme"]: {
            generation: _SUPPORT[cell] for generation, cell in row.items() if generation not in ("scheme", "source")
        }
        for row in rows("precisions.csv")
    }


def support(scheme: str, accelerator: Accelerator) -> Support:
    """How the accelerator runs a scheme of precisions.csv."""
    return precisions()[scheme][accelerator.generation]
