"""A solved fleet: counts, cost, who serves what, and the proof of optimality. Not its search (solve.py)."""

from __future__ import annotations

from dataclasses import dataclass

from heavylift.plan.fleet.problem import Bucket


@dataclass(frozen=True)
class Share:
    """Of a bucket's requests, the share that a type serves, 0 to 1."""

    bucket: Bucket
    share: float


@dataclass(frozen=True)
class Served:
    """A type of the fleet: `load` is the instances' worth of work it gets, of `count`."""

    name: str
    count: int
    usd_per_hour: float
    load: float
    requests_per_second: float
    shares: tuple[Share, ...]

    @property
    def utilisation(self) -> float:
        """0 to 1 - head room."""
        return self.load / self.count


@dataclass(frozen=True)
class Alone:
    """What the cheapest fleet of one type would be. `count` and what follows from it are None where it cannot serve
    the mix, or not within its quota: `why` says so."""

    name: str
    count: int | None
    usd_per_hour: float | None
    saving: float | None
    why: str | None


@dataclass(frozen=True)
class Fleet:
    """`usd_per_hour` is proven: no fleet costs less than `bound`, and `gap` = (usd_per_hour - bound) / usd_per_hour.

    `growth` is the factor by which every rate may grow before the head room is used up; `unrouted` is the same when
    requests are spread over the instances without regard to their size, 0 when some instance cannot serve some size.
    """

    usd_per_hour: float
    bound: float
    gap: float
    growth: float | None
    unrouted: float | None
    types: tuple[Served, ...]
    alone: tuple[Alone, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Instances by type, without those of which there are none."""
        return {served.name: served.count for served in self.types}

    @property
    def instances(self) -> int:
        return sum(served.count for served in self.types)
