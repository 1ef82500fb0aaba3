"""What an instance costs for an hour, where that was read, and when. Not a plan's cost: that is count times this."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Literal

from heavylift.plan.facts.table import Origin, number, origins, rows

REGION = "us-east-1"
STALE_AFTER = 90  # days; AWS changed prices by a third within one quarter of 2025
PriceHow = Literal["published", "estimated", "unknown"]

_HOW: dict[str, PriceHow] = {"published": "published", "estimated": "estimated", "unknown": "unknown"}
_FACTORS = (
    (re.compile(r"ml\.g(4dn|5|6|6e)\.xlarge"), 1.4),
    (re.compile(r"ml\.g"), 1.25),
    (re.compile(r"ml\.p3\.2xlarge"), 1.25),
    (re.compile(r"ml\.p3\.8xlarge"), 1.2),
    (re.compile(r"ml\.(p|trn)"), 1.15),
    (re.compile(r"ml\.inf2\.xlarge"), 1.3),
    (re.compile(r"ml\.(inf2|c|m)"), 1.2),
)
"""SageMaker's price over EC2's, as the published types of each family show it."""


@dataclass(frozen=True)
class PriceFact:
    """US dollars for an hour, None where unknown; `ec2` is the EC2 price beside it, from which an estimate is made."""

    usd_per_hour: float | None
    how: PriceHow
    ec2: float | None
    region: str
    origin: Origin

    def stale(self, on: date) -> str | None:
        """The sentence for a price that was read more than STALE_AFTER days before `on`, else None."""
        age = self.origin.age(on)
        if self.usd_per_hour is None or age <= STALE_AFTER:
            return None
        return (
            f"the price is {age} days old ({self.origin.name}, {self.origin.date}; stale after {STALE_AFTER}): "
            f"run `heavylift facts refresh --region {self.region}`"
        )


def estimate(type_: str, ec2: float) -> float | None:
    """SageMaker's price from EC2's, to 4 digits; None for a family of which no type is published."""
    factor = next((factor for pattern, factor in _FACTORS if pattern.match(type_)), None)
    return None if factor is None else round(ec2 * factor, 4)


@cache
def prices(region: str = REGION) -> dict[str, PriceFact]:
    """The prices of a region by instance type."""
    return {
        row["type"]: PriceFact(
            number(row["usd_per_hour"]),
            _HOW[row["how"]],
            number(row["ec2_usd_per_hour"]),
            region,
            origins()[row["source"]],
        )
        for row in rows("prices.csv")
        if row["region"] == region
    }


def price(type_: str, region: str = REGION) -> PriceFact:
    """Unknown where the region's table has no such row."""
    return prices(region).get(type_) or PriceFact(None, "unknown", None, region, origins()["unknown"])
