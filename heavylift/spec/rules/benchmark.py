"""The benchmark's load, prompts and targets. Not their bounds: heavylift/spec/benchmark.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from heavylift.benchmark.load import load_from
from heavylift.benchmark.looks import PASSES, needed_for, probes_for
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.slo import Slo
from heavylift.spec.fault import Fault, shown
from heavylift.spec.rules.read import Data, Rule, rows
from heavylift_runtime.engines.registry import ENGINES


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


def traced(data: Data) -> Iterator[Fault]:
    """A trace's times are said, or are those of the prompts."""
    benchmark = data.get("benchmark")
    said = benchmark.get("load") if isinstance(benchmark, dict) else None
    if not isinstance(benchmark, dict) or not isinstance(said, dict) or said.get("arrivals") != "trace":
        return
    workload = benchmark.get("workload")
    if said.get("times_s") is None and not (isinstance(workload, dict) and workload.get("dataset") is not None):
        sentence = (
            "'benchmark.load' trace needs 'times_s', or a 'benchmark.workload' dataset whose lines have 'arrival_s'"
        )
        yield Fault(("benchmark", "load"), sentence)


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
        assert isinstance(benchmark, dict), "it has targets"
        needed = needed_for(target, misses=0, rows=_rows(data, benchmark), together=_together(benchmark))
        if needed is not None and requests < needed:
            sentence = f"'benchmark.requests' must be 'auto', or at least {needed} to certify {target.label} at "
            yield Fault(("benchmark", "slo", index), f"{sentence}{target.confidence:g} confidence; got {requests}")


def enough_probes(data: Data) -> Iterator[Fault]:
    """So many probes can certify each invariance, and the measurement comes to all of them."""
    benchmark = data.get("benchmark")
    rows = benchmark.get("slo") if isinstance(benchmark, dict) else None
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        assert isinstance(benchmark, dict), "it has targets"
        try:
            target = Slo.from_dict(row)
        except FormatError:  # its fields say so
            continue
        batch, requests, probes = _rows(data, benchmark), benchmark.get("requests", 200), benchmark.get("probes", 2)
        needed = probes_for(target, 1 / PASSES if requests == "auto" else 1.0, misses=0, rows=batch)
        if needed is None or not isinstance(probes, int):
            continue
        where = ("benchmark", "slo", index)
        if target.metric == "batch_invariance" and batch == 1:
            sentence = "needs batches: 'serving.batch_size' above 1, api: heavylift, and no stream"
            yield Fault(where, f"'benchmark.slo' {target.metric} {sentence}")
        elif probes < needed:
            sentence = f"'benchmark.probes' must be at least {needed} to certify {target.label} at "
            yield Fault(where, f"{sentence}{target.confidence:g} confidence; got {probes}")
        elif isinstance(requests, int) and requests < probes and target.metric == "load_invariance":
            yield Fault(where, f"'benchmark.requests' must be at least the {probes} probes that it compares with")


def _rows(data: Data, benchmark: dict[str, Any]) -> int:
    """Prompts in a request: a batch, where the API takes one and it is not streamed."""
    serving = data.get("serving")
    batch = serving.get("batch_size", 1) if isinstance(serving, dict) else 1
    alone = benchmark.get("stream") is True or benchmark.get("api", "heavylift") != "heavylift"
    return 1 if alone or not isinstance(batch, int) or batch < 1 else batch


def _together(benchmark: dict[str, Any]) -> int:
    """Clients of a closed load."""
    said = benchmark.get("load")
    clients = said.get("concurrency", 1) if isinstance(said, dict) and said.get("mode") != "open" else 1
    return clients if isinstance(clients, int) and clients > 0 else 1


def held(data: Data) -> Iterator[Fault]:
    """A model that is measured before it serves is promoted or not: there is nothing to hold."""
    gate = data.get("gate")
    said = gate if isinstance(gate, dict) else {}
    if said.get("on_fail") == "hold" and said.get("strategy") in ("staging", "dark_variant"):
        sentence = f"'gate.on_fail' hold keeps a model that serves, and strategy: {said['strategy']} never lets one "
        yield Fault(("gate", "on_fail"), f"{sentence}serve that missed its targets; take rollback or warn")


def streamed(data: Data) -> Iterator[Fault]:
    """An engine that answers in one piece has no first token to measure."""
    benchmark, said = data.get("benchmark"), data.get("engine", "auto")
    if not isinstance(benchmark, dict) or benchmark.get("stream") is not True:
        return
    rows = [row for row in ENGINES.values() if row.why_not is None and said in ("auto", row.name)]
    if rows and not any(row.streams for row in rows):
        names = " and ".join(row.name for row in rows)
        sentence = f"'benchmark.stream' needs an engine that streams; in this version {names} cannot"
        yield Fault(("benchmark", "stream"), f"{sentence}; leave it out")


def aimed(data: Data) -> Iterator[Fault]:
    """Of several models behind an endpoint the benchmark names the one that it measures."""
    said = data.get("benchmark")
    if not isinstance(said, dict):
        return
    components = [row for row in rows(data, "inference_components") if isinstance(row, dict)]
    every = [*components, *(each for row in components for each in rows(row, "adapters") if isinstance(each, dict))]
    names = [str(each.get("name")) for each in every]
    component, target = said.get("inference_component"), said.get("target_model")
    if component is not None and component not in names:
        allowed = f"one of {', '.join(names)}" if names else "left out: the file has no 'inference_components'"
        sentence = f"'benchmark.inference_component' must be {allowed}; got {shown(component)}"
        yield Fault(("benchmark", "inference_component"), sentence)
    if component is None and len(components) > 1:
        sentence = f"'benchmark.inference_component' is missing: say which of {', '.join(names)} is measured"
        yield Fault(("benchmark",), sentence)
    if data.get("multi_model") is None:
        if target is not None:
            yield Fault(("benchmark", "target_model"), "'benchmark.target_model' belongs to 'multi_model'", at_key=True)
        return
    if target is None:
        sentence = "'benchmark.target_model' is missing: say which archive below 'multi_model.prefix' is measured"
        yield Fault(("benchmark",), sentence)
    if said.get("stream") is True:
        sentence = "'benchmark.stream' cannot be: SageMaker streams from no multi-model endpoint; leave it out"
        yield Fault(("benchmark", "stream"), sentence)


RULES: tuple[Rule, ...] = (targets, load, prompts, traced, enough_requests, enough_probes, held, streamed, aimed)
