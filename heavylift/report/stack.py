"""Where the time of an average request goes, as one bar of parts: its geometry.

Not the parts themselves (heavylift/benchmark/attribution.py), nor their drawing (templates/report.html.j2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heavylift.report.axis import WIDTH

HEIGHT = 44
LABELLED = 60.0  # a part as wide as this has room for its share


@dataclass(frozen=True)
class Piece:
    """A part on the bar: `shade` tells parts of one group apart; `share` of the whole, 0..1."""

    group: str
    shade: int
    name: str
    how: str
    ms: float
    share: float
    x: float
    width: float
    labelled: bool


def stack(report: Mapping[str, Any]) -> tuple[Piece, ...] | None:
    """The bar of a report; None for one whose client did not time its requests' way. What is less than nothing, by the
    noise of two clocks, has no width."""
    attribution = report.get("attribution")
    if attribution is None or not attribution["mean_ms"]:
        return None
    whole = sum(max(0.0, part["ms"]) for part in attribution["parts"])
    pieces, x, seen = [], 0.0, dict[str, int]()
    for part in attribution["parts"]:
        width = max(0.0, part["ms"]) / whole * WIDTH
        shade = seen[part["group"]] = seen.get(part["group"], -1) + 1
        pieces.append(
            Piece(
                part["group"],
                shade,
                part["name"],
                part["how"],
                part["ms"],
                part["ms"] / attribution["mean_ms"],
                round(x, 2),
                round(width, 2),
                width >= LABELLED,
            )
        )
        x += width
    return tuple(pieces)


def in_a_line(report: Mapping[str, Any]) -> str:
    """`81.2 ms on average: client 0.4, network 1.1, SageMaker 0.5, model 79.2`; empty where there is nothing to say."""
    if (attribution := report.get("attribution")) is None:
        return ""
    names = {"client": "client", "between": "network, SageMaker and model", "network": "network"}
    names |= {"sagemaker": "SageMaker", "model": "model"}
    if not any(part["group"] == "sagemaker" for part in attribution["parts"]):
        names["network"] = "network and SageMaker"
    sums: dict[str, float] = {}
    for part in attribution["parts"]:
        sums[part["group"]] = sums.get(part["group"], 0.0) + part["ms"]
    told = ", ".join(f"{names[group]} {ms:.1f}" for group, ms in sums.items())
    return f"{attribution['mean_ms']:.1f} ms on average: {told}"
