"""/metrics, as Prometheus reads it: what requests took and came to, and what the models are doing now. Not the log.

SageMaker scrapes a container's /metrics. Every series has the model's name; times are in seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from heavylift_runtime.server.visit import Visit

_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LONG = (*_SHORT, 120.0, 240.0, 480.0)


class Now(Protocol):
    """What a model is doing."""

    @property
    def name(self) -> str: ...

    @property
    def waiting(self) -> int: ...

    @property
    def running(self) -> int: ...

    @property
    def restarts(self) -> int: ...

    @property
    def loads(self) -> Sequence[Mapping[str, float]]: ...


class _Spread:
    """A histogram of each model. The client library's own takes one value at a time, and a stream brings dozens."""

    def __init__(self, name: str, about: str, bounds: Sequence[float]) -> None:
        self._name, self._about, self._bounds = f"heavylift_{name}", about, bounds
        self._of: dict[str, tuple[list[int], list[float]]] = {}  # how many up to each bound and above, and their sum

    def add(self, model: str, value: float | None, times: int = 1) -> None:
        """So many equal values; None: there is nothing to add, but the series is there."""
        found = self._of.get(model)
        if found is None:
            found = self._of[model] = ([0] * (len(self._bounds) + 1), [0.0])
        if value is not None:
            found[0][bisect_left(self._bounds, value)] += times
            found[1][0] += value * times

    def family(self) -> Metric:
        """As Prometheus reads it: each bound with all that is not above it."""
        family = HistogramMetricFamily(self._name, self._about, labels=["model"])
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for model, (counts, (total,)) in self._of.items():
            family.add_metric([model], list(zip(bounds, accumulate(counts), strict=True)), total)
        return family


class Metrics(Collector):
    """The series of one server; no global registry."""

    def __init__(self, models: Callable[[], Iterable[Now]]) -> None:
        self._models = models
        self._registry = CollectorRegistry(auto_describe=False)
        self._series: dict[tuple[Counter, str, str], Counter] = {}
        self._requests = self._counter("requests", "requests that were answered", ("model", "code"))
        self._errors = self._counter("errors", "requests that were not answered with 2xx", ("model", "code"))
        self._prompt = self._counter("prompt_tokens", "tokens of prompts")
        self._generated = self._counter("generated_tokens", "tokens that were generated")
        self._time = _Spread("request_seconds", "from arrival to the reply's end", _LONG)
        self._queue = _Spread("queue_seconds", "from arrival to a place in a copy", _SHORT)
        self._first = _Spread("first_token_seconds", "from arrival to the first token", _SHORT)
        self._gaps = _Spread("inter_token_seconds", "between two tokens of a stream", _SHORT)
        self._registry.register(self)

    def _counter(self, name: str, about: str, labels: Sequence[str] = ("model",)) -> Counter:
        return Counter(f"heavylift_{name}", about, labels, registry=self._registry)

    def over(self, visit: Visit, now: float) -> None:
        """A visit has ended."""
        model, code, began = visit.model, str(visit.code), visit.began
        self._of(self._requests, model, code).inc()
        if visit.code is None or visit.code >= 300 or visit.error is not None:
            self._of(self._errors, model, code).inc()
        self._of(self._prompt, model).inc(visit.prompt_tokens)
        self._of(self._generated, model).inc(visit.generated_tokens)
        self._time.add(model, now - began)
        self._queue.add(model, None if visit.seated is None else visit.seated - began)
        self._first.add(model, None if visit.opened is None else visit.opened - began)
        self._gaps.add(model, None)
        for gap, tokens in visit.gaps:
            self._gaps.add(model, gap, tokens)

    def _of(self, metric: Counter, *labels: str) -> Counter:
        """A series of a counter; finding one takes longer than adding to it."""
        key = (metric, labels[0], labels[-1])
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = metric.labels(*labels)
        return found

    def collect(self) -> Iterator[Metric]:
        """What the models are doing at this moment."""
        waiting = GaugeMetricFamily("heavylift_waiting_requests", "requests without a place", labels=["model"])
        running = GaugeMetricFamily("heavylift_running_requests", "requests that are computed", labels=["model"])
        restarts = CounterMetricFamily("heavylift_copy_restarts", "copies that died and came back", labels=["model"])
        engine = GaugeMetricFamily(
            "heavylift_engine", "what each copy's engine tells", labels=["model", "copy", "what"]
        )
        for model in self._models():
            waiting.add_metric([model.name], model.waiting)
            running.add_metric([model.name], model.running)
            restarts.add_metric([model.name], model.restarts)
            for copy, load in enumerate(model.loads):
                for what, value in load.items():
                    engine.add_metric([model.name, str(copy), what], value)
        yield from (waiting, running, restarts, engine)
        yield from (each.family() for each in (self._time, self._queue, self._first, self._gaps))

    def page(self) -> bytes:
        """Everything, in Prometheus's text format 0.0.4."""
        return generate_latest(self._registry)
