"""How rotary positions turn a head (Su et al. 2021), as config.json says it in any of its spellings.

Not the turning: that is native/rotary.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heavylift_runtime.families.fields import Fields

ORIGINAL = "original_max_position_embeddings"


@dataclass(frozen=True)
class Llama3:
    """Llama 3.1's stretched wave lengths: those beyond `original` / `low` are `factor` times as long."""

    factor: float
    low: float
    high: float
    original: int


@dataclass(frozen=True)
class Yarn:
    """YaRN (Peng et al. 2023): pairs that turn fewer than `slow` times within `original` positions are slowed by the
    factor, those that turn more than `fast` times are kept, those between blended."""

    factor: float
    fast: float
    slow: float
    original: int
    whole: bool
    """The borders are rounded to whole pairs."""


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
    yarn: Yarn | None = None
    factors: tuple[float, ...] = ()
    """LongRoPE's (Ding et al. 2024), one for each pair: its wave length is so many times as long."""
    length: float = 1.0
    """Turned numbers are multiplied by it."""
    reach: int | None = None
    """Positions beyond which other factors would hold."""


def rotary_of(fields: Fields, head_width: int, *, theta: str = "rope_theta", share: str | None = None) -> Rotary:
    """From `rope_scaling` and `rope_theta`, or the keys given instead; else from transformers 5's `rope_parameters`."""
    name = "rope_scaling" if fields.given("rope_scaling") else "rope_parameters"
    value = fields.given(name)
    if value is not None and not isinstance(value, Mapping):
        fields.refuse(name, "it must be an object, or null")
    said: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
    silent = {ORIGINAL: fields.given("max_position_embeddings"), "beta_fast": 32, "beta_slow": 1, "truncate": True}
    own = {} if (original := fields.given(ORIGINAL)) is None else {ORIGINAL: original}  # beside the object, it counts
    inner = Fields({**said, **own, theta: said.get("rope_theta", fields.given(theta))}, silent)
    base = inner.number(theta, above=1.0)
    kind = said.get("rope_type", said.get("type", "default"))
    part = said.get("partial_rotary_factor", 1.0 if share is None else fields.given(share))
    if share is None and part != 1:  # transformers' models without a share ignore it, or compute no step
        if kind != "default":
            fields.refuse(name, f"this family turns all of a head, not a 'partial_rotary_factor' of {part!r}")
        part = 1.0
    width = int(head_width * part) if type(part) in (int, float) and 0 < part <= 1 else 0
    if width < 2 or width % 2:
        fields.refuse(share or name, f"of each head's {head_width} numbers an even count must be turned, not {part!r}")
    kinds: dict[str, Any] = {}
    if kind == "linear":
        kinds["linear"] = inner.number("factor")
    elif kind == "llama3":
        llama3 = Llama3(
            inner.number("factor"),
            inner.number("low_freq_factor"),
            inner.number("high_freq_factor"),
            inner.whole(ORIGINAL),
        )
        if llama3.low >= llama3.high:
            inner.refuse("high_freq_factor", f"it must be more than 'low_freq_factor' {llama3.low:g}")
        kinds["llama3"] = llama3
    elif kind == "yarn":
        kinds = _yarn(inner)
    elif kind == "longrope":
        kinds = _longrope(inner, width // 2, fields.given("max_position_embeddings"))
    elif kind not in ("default", "dynamic"):  # dynamic stretches beyond 'max_position_embeddings' only: never here
        fields.refuse(name, "known are rope_type 'default', 'linear', 'dynamic', 'llama3', 'yarn' and 'longrope'")
    fields.faults += [f"{fault} (in {name!r})" if said else fault for fault in inner.faults]
    return Rotary(width, base, **kinds)


def _yarn(inner: Fields) -> dict[str, Any]:
    original, factor = inner.whole(ORIGINAL), inner.number("factor")
    yarn = Yarn(factor, inner.number("beta_fast"), inner.number("beta_slow"), original, inner.truth("truncate"))
    given, over, under = (inner.given(name) for name in ("attention_factor", "mscale", "mscale_all_dim"))
    if given is not None:
        length = inner.number("attention_factor")
    elif over and under:
        length = _longer(factor, inner.number("mscale")) / _longer(factor, inner.number("mscale_all_dim"))
    else:
        length = _longer(factor, 1.0)
    return {"yarn": yarn, "length": length}


def _longer(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _longrope(inner: Fields, pairs: int, most: Any) -> dict[str, Any]:
    """The short factors, which hold up to the original length; no request may be longer here."""
    original, factors = inner.whole(ORIGINAL, least=2), inner.given("short_factor")
    numbers = isinstance(factors, list) and all(type(f) in (int, float) and f > 0 for f in factors)
    if not numbers or len(factors) != pairs:
        inner.refuse("short_factor", f"it must be {pairs} numbers above 0")
        return {}
    if inner.given("attention_factor") is not None:
        length = inner.number("attention_factor")
    else:
        stretch = inner.number("factor") if inner.given("factor") is not None else (most or original) / original
        length = 1.0 if stretch <= 1 else math.sqrt(1 + math.log(stretch) / math.log(original))
    return {"factors": tuple(map(float, factors)), "length": length, "reach": original}
