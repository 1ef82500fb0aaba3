"""The benchmark's load, prompts and targets. Not their bounds: heavylift/spec/benchmark.py."""

from __future__ import annotations

from collections.abc import Iterator

from heavylift.benchmark.load import load_from
from heavylift.benchmark.looks import needed_for
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.slo import Slo
from heavylift.spec.fault import Fault, shown
from heavylift.spec.rules.read import Data, Rule


def targets(data: Data) -> Iterator[Fault]:
    """No two targets about the same thing."""
    benchmark = data.get("benchmark")
    rows = benchmark.get("slo") if isinstance(benchmark, dict) else None
    seen: set[tuple[str, str]] = set()
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        if not isinstance(row, dict):
            continue
        subject = (str(row.get("metric")), str(row.get("percentile")))
        if subject in seen:
            yield Fault(("benchmark", "slo", index), f"a second target for {shown(row.get('metric'))}; keep one")
        seen.add(subject)


def load(data: Data) -> Iterator[Fault]:
    """The fields that belong to the load's mode and arrivals, and no others."""
    benchmark = data.get("benchmark")
    said = benchmark.get("load") if isinstance(benchmark, dict) else None
    if not isinstance(said, dict):
        return
    opened = said.get("mode") == "open"
    filled = {"mode": "closed", **({"arrivals": "poisson"} if opened else {"concurrency": 1}), **said}
    try:
        load_from(filled)
    except FormatError as error:
        for sentence in error.faults:
            yield Fault(("benchmark", "load"), f"'benchmark.load': {sentence}")


def prompts(data: Data) -> Iterator[Fault]:
    """A workload of one's own is either synthetic or a dataset."""
    benchmark = data.get("benchmark")
    said = benchmark.get("workload") if isinstance(benchmark, dict) else None
    if isinstance(said, dict) and sum(said.get(key) is not None for key in ("synthetic", "dataset")) != 1:
        yield Fault(("benchmark", "workload"), "'benchmark.workload' needs exactly one of 'synthetic' and 'dataset'")


def enough_requests(data: Data) -> Iterator[Fault]:
    """So many requests can certify each target, if none of them misses it; else money is spent for no verdict."""
    benchmark = data.get("benchmark")
    rows = benchmark.get("slo") if isinstance(benchmark, dict) else None
    requests = benchmark.get("requests", 200) if isinstance(benchmark, dict) else None
    if not isinstance(requests, int) or requests < 1:
        return
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        try:
            target = Slo.from_dict(row)
        except FormatError:  # its fields say so
            continue
        needed = needed_for(target, misses=0)
        if needed is not None and requests < needed:
            sentence = f"'benchmark.requests' must be 'auto', or at least {needed} to certify {target.label} at "
            yield Fault(("benchmark", "slo", index), f"{sentence}{target.confidence:g} confidence; got {requests}")


RULES: tuple[Rule, ...] = (targets, load, prompts, enough_requests)
