"""The times and rates of an option under a load, and how many instances it takes. Not whether it fits.

Equal devices give equal times, so that each is computed once: ninety types have a dozen accelerators.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import log

import numpy as np

from heavylift.plan import cost
from heavylift.plan.model import ModelFacts
from heavylift.plan.performance.coefficients import NAMES, Calibration, Coefficients, calibration_for
from heavylift.plan.performance.device import Device
from heavylift.plan.performance.interval import Interval, normals
from heavylift.plan.performance.speed import Batches, Speed
from heavylift.plan.performance.throughput import Copy, Point, under
from heavylift.plan.performance.work import Work
from heavylift.plan.search.candidate import Estimate, Option
from heavylift.plan.traffic import Traffic

ONE_BATCH_AFTER_ANOTHER = ("script", "fastertransformer", "accelerate", "deepspeed", "neuronx")
"""Engines of whose batches no row leaves, and which no row joins, until it ends."""
THREADED = 64e6  # bytes of weights on a rank from which the native engine uses more than one thread for it
P90 = 1.2816  # standard deviations
SHORT, SMALL, MIDDLE = 200.0, 10e9, 30e9  # generated tokens; parameters


def trust(calibration: Calibration, work: Work, answer: float, subject: str) -> float:
    """Standard deviation of log(measured / predicted): at least what transfers between models were seen to err.

    P90 within 15 % for a dense model of 30 billion parameters or more, 35 % for experts, a factor of 2 for small models
    and short answers (benchmarks/plan_holdout.py). A calibration on this very model is believed.
    """
    if calibration.subject == subject:
        return calibration.residual
    if work.parameters < SMALL or answer < SHORT:
        least = log(2.0) / P90
    elif work.expert_bytes > 0:
        least = log(1.35) / P90
    else:
        least = log(1.25 if work.parameters < MIDDLE else 1.15) / P90
    return max(calibration.residual, least)


@dataclass
class Estimator:
    """Of one model and its traffic. `subject`: the digest of its weights; `given`: calibrations that come first."""

    model: ModelFacts
    traffic: Traffic
    subject: str
    given: Iterable[Calibration] = ()
    _copies: dict[tuple[object, ...], Copy | None] = field(default_factory=dict)
    _draws: dict[tuple[object, ...], Coefficients] = field(default_factory=dict)
    _found: dict[tuple[object, ...], tuple[int, Estimate] | None] = field(default_factory=dict)

    def estimate(self, option: Option, most_rows: int, least_instances: int) -> tuple[int, Estimate] | None:
        """Instances, and what they do; None where a peak of the device is not published."""
        fact, split = option.fact, option.split
        cores = 0.0 if fact.accelerator is not None else self._cores(option)
        name = "cpu" if fact.accelerator is None else fact.accelerator.name
        key = (name, cores, option.engine, option.dtype, option.quantization, split, most_rows)
        if key not in self._copies:
            self._copies[key] = self._copy(option, cores, most_rows)
        copy = self._copies[key]
        whole = (*key, option.copies, least_instances)
        if copy is not None and whole not in self._found:
            self._found[whole] = self._under(copy, option, least_instances)
        return self._found.get(whole)

    def calibration(self, option: Option) -> Calibration:
        """The coefficients that are used."""
        accelerator = option.fact.accelerator
        return calibration_for(option.engine, None if accelerator is None else accelerator.name, self.given)

    def _copy(self, option: Option, cores: float, most_rows: int) -> Copy | None:
        accelerator = option.fact.accelerator
        if accelerator is None:
            device: Device | None = Device.cpu(cores, option.dtype)
        else:
            device = Device.of(accelerator, option.dtype, option.quantization)
        if device is None:
            return None
        work, request = Work.of(self.model, option.dtype, option.quantization), self.traffic.load.request
        calibration = self.calibration(option)
        coefficients = self._drawn(calibration)
        kind = Batches if option.engine in ONE_BATCH_AFTER_ANOTHER else Speed
        speed = kind(work, device, option.split.tp, coefficients, option.split.pp)
        residual = trust(calibration, work, request.answer, self.subject)
        own = calibration.subject == self.subject
        first = calibration.first_residual if own else max(calibration.first_residual, residual)
        return Copy(speed, request, most_rows, residual, first)

    def _drawn(self, calibration: Calibration) -> Coefficients:
        key = (calibration.engine, calibration.version, calibration.accelerators)
        if key not in self._draws:
            self._draws[key] = calibration.draw(normals()[:, : len(NAMES)])
        return self._draws[key]

    def _cores(self, option: Option) -> float:
        """Physical cores of a rank: two hardware threads each."""
        ranks = option.split.devices * option.copies
        threads = option.fact.vcpus / ranks
        small = self.model.rank_bytes(option.dtype, option.quantization, tp=option.split.tp) < THREADED
        return min(threads / 2, 1.0) if small else threads / 2

    def _under(self, copy: Copy, option: Option, least: int) -> tuple[int, Estimate]:
        load = self.traffic.load
        rows, rate = copy.capacity(self.traffic.targets) or copy.largest
        instances = least
        if load.requests_per_second is not None:
            each = Interval.of(rate).p10 * option.copies / load.prompts
            instances = cost.instances(load.requests_per_second, each, least)
        point = under(copy, load, option.copies * instances)
        assert point is not None, "so many instances keep up"
        return instances, self._estimate(copy, option, instances, point, rows, rate * option.copies * instances)

    def _estimate(
        self, copy: Copy, option: Option, instances: int, point: Point, most_rows: int, most: np.ndarray
    ) -> Estimate:
        load, targets, answer = self.traffic.load, self.traffic.targets, self.traffic.load.request.answer
        if load.requests_per_second is not None:
            tokens = np.full(point.rate.shape, load.requests_per_second * load.prompts * answer)
        else:
            used = min(option.copies * instances, max(1, load.clients))
            tokens = point.rate * used * answer
        kept = point.kept(targets)
        if targets.tokens_per_second is not None:
            kept = kept * (tokens >= targets.tokens_per_second)
        calibration = self.calibration(option)
        return Estimate(
            first_token=Interval.of(point.first_token),
            per_token=Interval.of(point.per_token),
            request=Interval.of(point.request),
            tokens_per_second=Interval.of(tokens),
            rows=Interval.of(point.rows).p50,
            probability=float(kept.sum()) / len(kept),
            most_rows=most_rows,
            most_tokens=Interval.of(most * answer),
            calibration=calibration.label,
            calibrated=calibration.how == "measured",
        )
