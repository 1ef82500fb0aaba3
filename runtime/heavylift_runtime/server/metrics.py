"""/metrics, as Prometheus reads it: what requests took and came to, and what the models are doing now. Not the log.

SageMaker scrapes a container's /metrics. Every series has the model's name; times are in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from heavylift_runtime.server.visit import Visit

_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
M = TypeVar("M", Counter, Histogram)
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


class Metrics(Collector):
    """The series of one server; no global registry."""

    def __init__(self, models: Callable[[], Iterable[Now]]) -> None:
        self._models = models
        self._registry = CollectorRegistry(auto_describe=False)
        self._series: dict[tuple[Any, ...], Any] = {}
        self._requests = self._counter("requests", "requests that were answered", ("model", "code"))
        self._errors = self._counter("errors", "requests that were not answered with 2xx", ("model", "code"))
        self._prompt = self._counter("prompt_tokens", "tokens of prompts")
        self._generated = self._counter("generated_tokens", "tokens that were generated")
        self._time = self._histogram("request_seconds", "from arrival to the reply's end", _LONG)
        self._queue = self._histogram("queue_seconds", "from arrival to a place in a copy", _SHORT)
        self._first = self._histogram("first_token_seconds", "from arrival to the first token", _SHORT)
        self._gaps = self._histogram("inter_token_seconds", "between two tokens of a stream", _SHORT)
        self._registry.register(self)

    def _counter(self, name: str, about: str, labels: Sequence[str] = ("model",)) -> Counter:
        return Counter(f"heavylift_{name}", about, labels, registry=self._registry)

    def _histogram(self, name: str, about: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"heavylift_{name}", about, ("model",), registry=self._registry, buckets=buckets)

    def over(self, visit: Visit, now: float) -> None:
        """A visit has ended."""
        model, code = visit.model, str(visit.code)
        self._of(self._requests, model, code).inc()
        if visit.code is None or visit.code >= 300 or visit.error is not None:
            self._of(self._errors, model, code).inc()
        self._of(self._prompt, model).inc(visit.prompt_tokens)
        self._of(self._generated, model).inc(visit.generated_tokens)
        self._of(self._time, model).observe(now - visit.began)
        if visit.seated is not None:
            self._of(self._queue, model).observe(visit.seated - visit.began)
        if visit.opened is not None:
            self._of(self._first, model).observe(visit.opened - visit.began)
        gaps = self._of(self._gaps, model)
        for gap in visit.gaps:
            gaps.observe(gap)

    def _of(self, metric: M, *labels: str) -> M:
        """A series of a metric; finding one takes longer than adding to it."""
        found = self._series.get((metric, *labels))
        if found is None:
            found = self._series[metric, *labels] = metric.labels(*labels)
        return cast(M, found)

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

    def page(self) -> bytes:
        """Everything, in Prometheus's text format 0.0.4."""
        return generate_latest(self._registry)
