"""The parallel plans of an instance type, ready to be simulated for one engine. Not the simulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from heavylift.plan.facts import InstanceFact
from heavylift.plan.parallel import Subject
from heavylift.plan.performance.coefficients import Calibration, calibration_for
from heavylift.plan.performance.device import Device
from heavylift.plan.performance.load import Targets
from heavylift.plan.performance.speed import Request, Speed
from heavylift.plan.performance.work import Work
from heavylift.plan.search.candidate import Option
from heavylift.plan.search.estimate import THREADED
from heavylift.plan.simulate.batching import BLOCK, Limits
from heavylift.plan.simulate.compare import Parallel, Way
from heavylift.plan.simulate.engine import EngineTime
from heavylift.plan.simulate.trace import Arrival

WHOLE = 1 << 40  # tokens of an iteration of an engine that does not cut prompts into chunks


def ways(
    subject: Subject,
    fact: InstanceFact,
    instances: int,
    trace: Sequence[Arrival],
    calibrations: Sequence[Calibration] = (),
) -> Iterator[Way]:
    """Every split with as many copies as there is room for, on all instances together."""
    work = Work.of(subject.model, subject.dtype, subject.quantization)
    prompt = fmean(arrival.input_tokens for arrival in trace)
    for option, faults in subject.options(fact):
        device = _device(subject, option)
        if faults or device is None:
            continue
        speed = Speed(work, device, option.split.tp, calibration(option, calibrations).point(), option.split.pp)
        parallel = Parallel(option.split.tp, option.split.pp, option.copies * instances)
        yield Way(parallel, EngineTime(speed, prompt), _limits(subject, option, trace))


def calibration(option: Option, given: Sequence[Calibration] = ()) -> Calibration:
    """The coefficients that an option is simulated with."""
    accelerator = option.fact.accelerator
    return calibration_for(option.engine, None if accelerator is None else accelerator.name, given)


def seconds(targets: Targets) -> dict[str, float]:
    """Targets as the simulation names them."""
    named = {"ttft": targets.first_token, "tpot": targets.per_token, "latency": targets.request}
    return {name: limit for name, limit in named.items() if limit is not None}


def _device(subject: Subject, option: Option) -> Device | None:
    """None where a peak of the accelerator is not published."""
    if option.fact.accelerator is not None:
        return Device.of(option.fact.accelerator, option.dtype, option.quantization)
    cores = option.fact.vcpus / (option.split.devices * option.copies) / 2  # two hardware threads each
    small = subject.model.rank_bytes(option.dtype, option.quantization, tp=option.split.tp) < THREADED
    return Device.cpu(min(cores, 1.0) if small else cores, option.dtype)


def _limits(subject: Subject, option: Option, trace: Sequence[Arrival]) -> Limits:
    longest = max(arrival.input_tokens + arrival.output_tokens for arrival in trace)
    if not subject.joins:
        prompt = max(arrival.input_tokens for arrival in trace)
        answer = max(arrival.output_tokens for arrival in trace)
        rows = subject.rows(option, Request(float(prompt), float(answer)))
        return Limits(rows * (prompt + answer + 2 * BLOCK), max(rows, 1), WHOLE, joins=False)
    sequences, tokens = subject.batching(option)
    return Limits(subject.cache_tokens(option, longest), sequences, tokens)
