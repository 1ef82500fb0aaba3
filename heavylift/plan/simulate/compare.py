"""Every valid parallel plan on one trace, and the best of them with the reason. Not the simulation of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from heavylift.errors import InputError
from heavylift.plan.simulate.batching import Limits
from heavylift.plan.simulate.endpoint import simulate
from heavylift.plan.simulate.outcome import Outcome
from heavylift.plan.simulate.steptime import StepTime
from heavylift.plan.simulate.trace import Arrival

ALIKE = 0.01  # relative: latencies closer than this are decided by the simpler plan


@dataclass(frozen=True)
class Parallel:
    """`copies` of a model, each over `tensor` ranks in each of `pipeline` stages."""

    tensor: int
    pipeline: int
    copies: int

    def __str__(self) -> str:
        stages = f" · {self.pipeline} stages" if self.pipeline > 1 else ""
        copies = "1 copy" if self.copies == 1 else f"{self.copies} copies"
        return f"{copies} at degree {self.tensor}{stages}"

    @property
    def accelerators(self) -> int:
        return self.tensor * self.pipeline * self.copies


@dataclass(frozen=True)
class Way:
    """A plan to try: how long its iterations take, and what a copy can hold."""

    parallel: Parallel
    time: StepTime
    limits: Limits


@dataclass(frozen=True)
class Tried:
    """A plan and what it did; `kept` is the share of requests within every limit. Without an outcome, why."""

    parallel: Parallel
    outcome: Outcome | None
    kept: float
    why: str | None = None


@dataclass(frozen=True)
class Comparison:
    """All plans, the best first; those that cannot serve the trace last."""

    tried: tuple[Tried, ...]
    why: str

    @property
    def best(self) -> Tried:
        return self.tried[0]


def compare(trace: Sequence[Arrival], ways: Iterable[Way], limits_s: dict[str, float]) -> Comparison:
    """`limits_s` are seconds of `ttft`, `tpot`, `latency`. Raises InputError where no plan can serve the trace."""
    tried = [_try(trace, way, limits_s) for way in ways]
    able = sorted((each for each in tried if each.outcome is not None), key=_rank)
    unable = [each for each in tried if each.outcome is None]
    if not able:
        raise InputError([f"{each.parallel}: {each.why}" for each in unable] or ["no parallel plan is valid"])
    able = _simplest_first(able)
    return Comparison((*able, *unable), _reason(able, limits_s))


def _try(trace: Sequence[Arrival], way: Way, limits_s: dict[str, float]) -> Tried:
    if way.limits.blocks < 1:
        return Tried(way.parallel, None, 0.0, "the weights leave no room for a cache")
    try:
        outcome = simulate(trace, way.time, way.limits, way.parallel.copies)
    except InputError as error:
        return Tried(way.parallel, None, 0.0, str(error))
    return Tried(way.parallel, outcome, outcome.kept(limits_s))


def _rank(each: Tried) -> tuple[float, float, int, int]:
    """Most requests within the limits, then the lowest P90 latency; then fewer ranks that must talk to each other."""
    assert each.outcome is not None
    ranks = each.parallel.tensor * each.parallel.pipeline
    return -round(each.kept, 4), each.outcome.latency_s[90], ranks, each.parallel.pipeline


def _simplest_first(able: list[Tried]) -> list[Tried]:
    """Of plans as good as the first, the one whose ranks talk least goes before it."""
    first = able[0]
    assert first.outcome is not None
    near = [
        each
        for each in able
        if round(each.kept, 4) == round(first.kept, 4)
        and each.outcome is not None
        and each.outcome.latency_s[90] <= first.outcome.latency_s[90] * (1 + ALIKE)
    ]
    simplest = min(near, key=lambda each: (each.parallel.tensor * each.parallel.pipeline, each.parallel.pipeline))
    return [simplest, *(each for each in able if each is not simplest)]


def _reason(able: list[Tried], limits_s: dict[str, float]) -> str:
    best, outcome = able[0], able[0].outcome
    assert outcome is not None
    within = f"the targets are kept for {100 * best.kept:.1f} % of the requests, " if limits_s else ""
    said = f"{best.parallel}: {within}90 % are answered within {outcome.latency_s[90]:.3g} s"
    if len(able) == 1:
        return f"{said}; no other valid plan holds the trace"
    other = able[1]
    assert other.outcome is not None
    share = f"{100 * other.kept:.1f} % and " if limits_s else ""
    return f"{said}; next is {other.parallel} with {share}{other.outcome.latency_s[90]:.3g} s"
