"""How rotary positions turn a head (Su et al. 2021), as config.json says it in any of its spellings.

Not the turning: that is native/rotary.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heavylift_runtime.families.fields import Fields


@dataclass(frozen=True)
class Llama3:
    """Llama 3.1's stretched wave lengths: those beyond `original` / `low` are `factor` times as long."""

    factor: float
    low: float
    high: float
    original: int


@dataclass(frozen=True)
class Rotary:
    """The first `width` numbers of a head are turned, in pairs."""

    width: int
    theta: float
    interleaved: bool = False
    """Neighbours make a pair (GPT-J); else a number and the one half a width further on (GPT-NeoX, Llama)."""
    linear: float = 1.0
    """Positions are divided by it."""
    llama3: Llama3 | None = None


def rotary_of(fields: Fields, head_width: int, *, theta: str = "rope_theta", share: str | None = None) -> Rotary:
    """From `rope_parameters` (transformers 5), else from `rope_theta` and `rope_scaling`, or the keys given instead."""
    name = "rope_parameters" if fields.given("rope_parameters") is not None else "rope_scaling"
    value = fields.given(name)
    if value is not None and not isinstance(value, Mapping):
        fields.refuse(name, "it must be an object, or null")
    said: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
    inner = Fields({**said, theta: said.get("rope_theta", fields.given(theta))})
    base = inner.number(theta, above=1.0)
    part = said.get("partial_rotary_factor", 1.0 if share is None else fields.given(share))
    width = int(head_width * part) if type(part) in (int, float) and 0 < part <= 1 else 0
    if width < 2 or width % 2:
        fields.refuse(share or name, f"of each head's {head_width} numbers an even count must be turned, not {part!r}")
    kind = said.get("rope_type", said.get("type", "default"))
    linear, llama3 = 1.0, None
    if kind == "linear":
        linear = inner.number("factor")
    elif kind == "llama3":
        llama3 = Llama3(
            inner.number("factor"),
            inner.number("low_freq_factor"),
            inner.number("high_freq_factor"),
            inner.whole("original_max_position_embeddings"),
        )
        if llama3.low >= llama3.high:
            inner.refuse("high_freq_factor", f"it must be more than 'low_freq_factor' {llama3.low:g}")
    elif kind != "default":
        fields.refuse(name, "known are rope_type 'default', 'linear' and 'llama3'")
    fields.faults += [f"{fault} (in {name!r})" if said else fault for fault in inner.faults]
    return Rotary(width, base, linear=linear, llama3=llama3)
