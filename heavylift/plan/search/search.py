"""Tries every option, keeps the reasons against those that cannot run, and estimates the others. Deterministic.

Not the choice (found.py). Options of engines that this version has are planned byte by byte by whoever calls; those of
the registry's other engines are found here, to say what they would do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from heavylift.plan import facts, times
from heavylift.plan.cost import usd_per_million
from heavylift.plan.facts import InstanceFact
from heavylift.plan.model import BYTES, OWN_SCHEMES, SCHEMES, ModelFacts
from heavylift.plan.performance.coefficients import Calibration
from heavylift.plan.search.candidate import Candidate, Estimate, Option, Rejected
from heavylift.plan.search.estimate import Estimator
from heavylift.plan.search.found import Found
from heavylift.plan.search.room import room
from heavylift.plan.traffic import Traffic
from heavylift.plan.validity import Split, precision_faults, splits
from heavylift_runtime.engines.registry import ANY, ENGINES, Capabilities

MOST_INSTANCES = 1000  # of one variant, as the model file allows


@dataclass(frozen=True)
class Planned:
    """An option that was planned byte by byte: it can run up to `most_rows` prompts in a batch, or has faults."""

    option: Option
    most_rows: int
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What the model file says, of which other options differ; `bytes` of its files."""

    dtype: str
    quantization: str
    instances: int
    copies: int
    bytes: int
    subject: str


def search(
    model: ModelFacts | None,
    wanted: Wanted,
    traffic: Traffic,
    planned: Iterable[Planned],
    *,
    calibrations: Sequence[Calibration] = (),
    engines: Sequence[str] = (),
    types: Iterable[InstanceFact] | None = None,
) -> Found:
    """`model` None: a script, of which nothing is known but its size. `engines`: others of the registry to look at."""
    estimator = None if model is None else Estimator(model, traffic, wanted.subject, calibrations)
    candidates: list[Candidate] = []
    rejected: list[Rejected] = []
    every = list(planned)
    if model is not None:
        for name in engines:
            every += _others(model, ENGINES[name], wanted, traffic, types)
    for each in every:
        if each.faults:
            rejected.append(Rejected(each.option, each.faults))
            continue
        found = None if estimator is None else estimator.estimate(each.option, each.most_rows, wanted.instances)
        instances, estimate = found if found is not None else (wanted.instances, None)
        if instances > MOST_INSTANCES:
            reason = f"the load takes {instances} instances; one endpoint has at most {MOST_INSTANCES}"
            rejected.append(Rejected(each.option, (reason,)))
            continue
        candidates.append(_candidate(each.option, instances, estimate, wanted))
    return Found(traffic, tuple(candidates), tuple(rejected))


def _candidate(option: Option, instances: int, estimate: Estimate | None, wanted: Wanted) -> Candidate:
    fact = option.fact
    usd = None if fact.usd_per_hour is None else fact.usd_per_hour * instances
    at_load = at_most = None
    if usd is not None and estimate is not None:
        at_load = usd_per_million(usd, estimate.tokens_per_second.p50)
        at_most = usd_per_million(usd, estimate.most_tokens.p50)
    load_seconds = times.download_seconds(wanted.bytes, fact) + wanted.bytes / times.LOAD_BYTES_PER_SECOND
    return Candidate(
        option=option,
        instances=instances,
        usd_per_hour=usd,
        load_seconds=load_seconds + times.START_SECONDS,
        estimate=estimate,
        asks=tuple(_asks(option, instances, wanted)),
        usd_per_million=at_load,
        usd_per_million_most=at_most,
    )


def _asks(option: Option, instances: int, wanted: Wanted) -> Iterator[str]:
    row = ENGINES[option.engine]
    if row.why_not is not None:
        yield f"engine: {option.engine}, which this version cannot run"
    if option.dtype != wanted.dtype:
        yield f"dtype: {option.dtype}, quality not evaluated"
    if option.quantization != wanted.quantization:
        whose = " of a checkpoint that has it" if option.quantization in OWN_SCHEMES else ""
        yield f"quantization: {option.quantization}{whose}, quality not evaluated"
    if option.copies != wanted.copies:
        yield f"serving.workers: {option.copies}"
    if instances != wanted.instances:
        yield f"initial_instance_count: {instances}"


def _others(
    model: ModelFacts, row: Capabilities, wanted: Wanted, traffic: Traffic, types: Iterable[InstanceFact] | None
) -> Iterator[Planned]:
    """Every option of an engine on accelerators: types, precisions, splits, and one copy or as many as devices."""
    if model.family not in row.families and ANY not in row.families:
        return
    for fact in facts.instances().values() if types is None else types:
        if fact.accelerator is None or fact.hardware not in row.hardware:
            continue
        for dtype, quantization in _precisions(row, wanted):
            faults = tuple(precision_faults(dtype, quantization, fact.accelerator))
            if faults:
                yield Planned(Option(fact, row.name, dtype, quantization, Split(1), 1), 0, faults)
                continue
            valid, refused = splits(row.name, model, fact, quantization)
            for split, reasons in refused.items():
                yield Planned(Option(fact, row.name, dtype, quantization, split, 1), 0, tuple(reasons))
            for split in valid:
                most = fact.devices // split.devices
                for copies in sorted({1, most}):
                    option = Option(fact, row.name, dtype, quantization, split, copies)
                    rows, missing = room(model, option, traffic.load.request)
                    yield Planned(option, rows, () if missing is None else (missing,))


def _precisions(row: Capabilities, wanted: Wanted) -> Iterator[tuple[str, str]]:
    """The checkpoint's own first; half of an fp32 one; what the engine can quantize to, if bytes are known for it."""
    dtypes = [wanted.dtype] + (["bf16", "fp16"] if BYTES[wanted.dtype] > 2 else ["fp16"])
    for dtype in dict.fromkeys(dtypes):
        if dtype in row.dtypes:
            yield dtype, wanted.quantization
    beside = row.rounded_in or row.dtypes
    half = "bf16" if "bf16" in beside else beside[0]
    if wanted.quantization == "none":
        for quantization in row.quantizations:
            if SCHEMES.get(quantization) is not None and quantization != "mxfp4":  # nobody publishes other models in it
                yield half, quantization
