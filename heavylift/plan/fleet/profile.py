"""Throughputs at the SLO from the closed forms, where nobody has measured them. Not the forms.

Of each type the parallel plan that serves the most sizes, then the one with the least work for the whole mix. A rate is
the P10 of its draws, at the largest batch of which nine draws in ten keep the SLO.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from heavylift.plan.facts import InstanceFact
from heavylift.plan.fleet.problem import Bucket
from heavylift.plan.parallel import Subject
from heavylift.plan.performance.coefficients import Calibration
from heavylift.plan.performance.load import Load, Targets
from heavylift.plan.performance.speed import Request
from heavylift.plan.search.candidate import Option
from heavylift.plan.search.estimate import Estimator
from heavylift.plan.traffic import Traffic


@dataclass(frozen=True)
class Profile:
    """One type's throughputs in the order of the buckets, with its parallel plan; `label` says how they are known."""

    option: Option
    throughput: tuple[float, ...]
    label: str


def profiles(
    subject: Subject,
    types: Iterable[InstanceFact],
    buckets: Sequence[Bucket],
    targets: Targets,
    calibrations: Sequence[Calibration] = (),
) -> dict[str, Profile]:
    """By type, without those that cannot serve any size."""
    loads = [Load(Request(float(bucket.input_tokens), float(bucket.output_tokens))) for bucket in buckets]
    estimators = [
        Estimator(subject.model, Traffic(load, targets, "given", "the fleet file"), subject.digest, calibrations)
        for load in loads
    ]
    found: dict[str, Profile] = {}
    for fact in types:
        options = [option for option, faults in subject.options(fact) if not faults]
        best: tuple[int, float] | None = None
        for staged in (False, True):
            for option in options:
                if (option.split.pp > 1) is not staged:
                    continue
                rates = tuple(_rate(subject, option, each) for each in estimators)
                rank = _rank(rates, buckets)
                if any(rates) and (best is None or rank < best):
                    best = rank
                    found[fact.type] = Profile(option, rates, estimators[0].calibration(option).label)
            if best is not None and best[0] == 0:
                break  # stages are for what does not fit without: they make no token faster
    return found


def _rate(subject: Subject, option: Option, estimator: Estimator) -> float:
    """Requests per second of one instance; 0 where none of this size is answered within the targets."""
    request = estimator.traffic.load.request
    rows = subject.rows(option, request)
    if rows < 1:
        return 0.0
    alone = option if option.fact.accelerator is None else replace(option, copies=1)  # copies share no accelerator
    found = estimator.estimate(alone, rows, 1)
    if found is None or not found[1].sure:
        return 0.0
    return found[1].most_tokens.p10 / request.answer * option.copies / alone.copies


def _rank(rates: Sequence[float], buckets: Sequence[Bucket]) -> tuple[int, float]:
    """Sizes that are not served, then the work of those that are."""
    asked = [(bucket.requests_per_second, rate) for bucket, rate in zip(buckets, rates, strict=True)]
    lost = sum(wanted > 0 and rate == 0 for wanted, rate in asked)
    return lost, math.fsum(wanted / rate for wanted, rate in asked if rate > 0)
