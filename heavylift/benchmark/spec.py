"""What is benchmarked and how: the JSON string that the gate's Lambda receives, as frozen values.

Not the user's YAML (heavylift/spec): every `auto` but the number of requests is answered before a Benchmark is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from heavylift.benchmark import shape
from heavylift.benchmark.load import Load, OpenLoad, load_from
from heavylift.benchmark.looks import Plan, auto, fixed
from heavylift.benchmark.shape import Field, FormatError
from heavylift.benchmark.slo import Slo

FORMAT = "heavylift.benchmark/1"
MOST_SHARED_S = 780  # a Lambda's 15 minutes, less the common beginning and the last replies
INPUTS = "benchmark-inputs/"  # below an asynchronous endpoint's results: there its role may read them
APIS = ("heavylift", "tgi", "openai-chat", "openai-completions")

NAME = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
SUBJECT_FIELDS = {
    "model": Field(str, pattern=NAME),
    "engine": Field(str),
    "quantization": Field(str),
    "dtype": Field(str),
    "batch": Field(int, least=1),
    "tensor_parallel_degree": Field(int, least=1),
    "workers": Field(int, least=1),
    "instance_type": Field(str),
    "instance_count": Field(int, least=1),
}
FIELDS = {
    "format": Field(str, choices=(FORMAT,)),
    "subject": Field(dict),
    "workload": Field(str, pattern=NAME),
    "load": Field(dict),
    "warmup_requests": Field(int, least=0),
    "requests": Field(int, least=1, most=1_000_000, words=("auto",)),
    "max_seconds": Field(float, least=1),
    "seed": Field(int),
    "slo": Field(list),
    "on_fail": Field(str, choices=("rollback", "hold", "warn")),
}
WARMUP_FIELDS = {
    "until": Field(str, choices=("stationary",)),
    "window": Field(int, least=3, most=10_000),
    "max_requests": Field(int, least=9, most=100_000),
}
OPTIONAL = {
    "on_inconclusive": Field(str, choices=("fail", "pass")),
    "stream": Field(bool),
    "api": Field(str, choices=APIS),
    "warmup": Field(dict),
    "probes": Field(int, least=0, most=64),
    "max_lag_ms": Field(float, least=0.1, most=60_000),
    "max_usd": Field(float, least=0.0001, most=1_000_000),
    "part": Field(int, least=0),
    "inference_component": Field(str),
    "target_model": Field(str),
    "asynchronous": Field(bool),
}
PRICE = {"usd_per_hour": Field(float, least=0, most=100_000)}


@dataclass(frozen=True)
class Subject:
    """What is measured, as the report names it; `batch` is the number of prompts in one request, `usd_per_hour` what
    one instance costs."""

    model: str
    engine: str
    quantization: str
    dtype: str
    batch: int
    tensor_parallel_degree: int
    workers: int
    instance_type: str
    instance_count: int
    usd_per_hour: float | None = None


@dataclass(frozen=True)
class Warmup:
    """Warm up until three windows of `window` requests agree; after `max_requests` without, the run is given up."""

    until: str
    window: int
    max_requests: int


@dataclass(frozen=True)
class Benchmark:
    """A whole benchmark; `max_seconds` and `max_usd` bound warm-up and measurement together. `requests` None is auto;
    `workload` is a name, or the prompts themselves. A `part` of a run has the same prompts as the whole, in an order of
    its own, at times of its own. `asynchronous`: requests and replies lie in S3."""

    subject: Subject
    workload: str | dict[str, Any]
    load: Load
    warmup_requests: int
    requests: int | None
    max_seconds: float
    seed: int
    slo: tuple[Slo, ...]
    on_fail: str
    on_inconclusive: str = "fail"
    stream: bool = False
    api: str = "heavylift"
    warmup: Warmup | None = None
    probes: int = 0
    max_lag_ms: float = 10.0
    max_usd: float | None = None
    part: int = 0
    inference_component: str | None = None
    target_model: str | None = None
    asynchronous: bool = False

    @property
    def aim(self) -> dict[str, str | None]:
        """Which of the endpoint's models is asked, in SageMakerClient's words."""
        return {"component": self.inference_component, "model": self.target_model}

    @property
    def deal(self) -> str:
        """What decides the arrivals and the order of the prompts."""
        return str(self.seed) if self.part == 0 else f"{self.seed}/{self.part}"

    @property
    def plan(self) -> Plan:
        """How many requests, and when the run looks at its verdict."""
        if self.requests is not None:
            return fixed(self.requests)
        return auto(self.slo, rows=self.batch, together=self.together)

    @property
    def batch(self) -> int:
        """Prompts in one request: a stream, and the APIs of others, take one; so does a trace with prompts."""
        replays = isinstance(self.load, OpenLoad) and self.load.replays
        return self.subject.batch if self.api == "heavylift" and not self.stream and not replays else 1

    @property
    def together(self) -> int:
        """Requests that may end together: the clients of a closed load."""
        return 1 if isinstance(self.load, OpenLoad) else self.load.concurrency

    @property
    def usd_per_second(self) -> float | None:
        """Of all instances."""
        price = self.subject.usd_per_hour
        return None if price is None else price * self.subject.instance_count / 3600

    @classmethod
    def from_json(cls, text: str) -> Benchmark:
        """Raises FormatError for what is not JSON, or not exactly this format."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise FormatError([f"the benchmark is not JSON: {error}"]) from None
        return cls.from_dict(document)

    @classmethod
    def from_dict(cls, document: Any) -> Benchmark:
        """Raises FormatError with every fault, of the nested objects too."""
        parts = document if isinstance(document, dict) else {}
        own_prompts = {"workload": Field(dict)} if isinstance(parts.get("workload"), dict) else {}
        found = shape.faults(document, {**FIELDS, **own_prompts}, "benchmark", OPTIONAL)
        if isinstance(parts.get("subject"), dict):
            found += shape.faults(parts["subject"], SUBJECT_FIELDS, "subject", PRICE)
        if isinstance(parts.get("warmup"), dict):
            found += shape.faults(parts["warmup"], WARMUP_FIELDS, "warmup")
        load: Load | None = None
        if isinstance(parts.get("load"), dict):
            try:
                load = load_from(parts["load"])
            except FormatError as error:
                found += error.faults
        slo = []
        for position, target in enumerate(parts["slo"] if isinstance(parts.get("slo"), list) else []):
            try:
                slo.append(Slo.from_dict(target, f"slo[{position}]"))
            except FormatError as error:
                found += error.faults
        if isinstance(load, OpenLoad) and load.replays and "dataset" not in (parts.get("workload") or ()):
            found.append("load.times_s is missing: a trace needs its times, or a workload whose lines have 'arrival_s'")
        if isinstance(load, OpenLoad) and load.generators > 1:
            found += _not_shared(parts, slo)
        if parts.get("asynchronous") is True and parts.get("stream") is True:
            found.append("benchmark.stream and benchmark.asynchronous are true: nothing streams through S3; keep one")
        if found:
            raise FormatError(found)
        assert load is not None
        rest = {key: value for key, value in parts.items() if key not in ("format", "subject", "load", "slo")}
        rest["requests"] = None if rest["requests"] == "auto" else rest["requests"]
        rest |= {"warmup": Warmup(**rest["warmup"])} if "warmup" in rest else {}
        return cls(subject=Subject(**parts["subject"]), load=load, slo=tuple(slo), **rest)

    def to_dict(self) -> dict[str, Any]:
        """Without the optional keys that say what they mean when they are missing."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        for field in fields(self):
            if field.name in OPTIONAL and said[field.name] == field.default:
                del said[field.name]
        said |= {"subject": {key: value for key, value in asdict(self.subject).items() if value is not None}}
        said |= {"load": self.load.to_dict(), "slo": [target.to_dict() for target in self.slo]}
        said |= {"requests": "auto"} if self.requests is None else {}
        said |= {"warmup": asdict(self.warmup)} if self.warmup is not None else {}
        return {"format": FORMAT, **said}

    def to_json(self) -> str:
        """One line with sorted keys: equal benchmarks give equal bytes, so a digest of it is stable."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))


def _not_shared(parts: dict[str, Any], slo: list[Slo]) -> Iterator[str]:
    """What a load by several generators cannot do."""
    if isinstance(seconds := parts.get("max_seconds"), int | float) and seconds > MOST_SHARED_S:
        yield f"benchmark.max_seconds is {seconds}; with several generators, each one Lambda, at most {MOST_SHARED_S}"
    for target in slo:
        if target.metric.endswith("_invariance"):
            yield f"slo: {target.metric} needs probes, which several generators do not send; leave one of the two out"
