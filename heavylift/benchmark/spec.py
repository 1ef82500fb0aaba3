"""What is benchmarked and how: the JSON string that the gate's Lambda receives, as frozen values.

Not the user's YAML (heavylift/spec): every `auto` is answered before a Benchmark is made.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from heavylift.benchmark import shape
from heavylift.benchmark.shape import Field, FormatError
from heavylift.benchmark.slo import Slo

FORMAT = "heavylift.benchmark/1"

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
LOAD_FIELDS = {"mode": Field(str, choices=("closed",)), "concurrency": Field(int, least=1, most=900)}
FIELDS = {
    "format": Field(str, choices=(FORMAT,)),
    "subject": Field(dict),
    "workload": Field(str, pattern=NAME),
    "load": Field(dict),
    "warmup_requests": Field(int, least=0),
    "requests": Field(int, least=1),
    "max_seconds": Field(float, least=1),
    "seed": Field(int),
    "slo": Field(list),
    "on_fail": Field(str, choices=("rollback", "warn")),
}


@dataclass(frozen=True)
class Subject:
    """What is measured, as the report names it; `batch` is the number of prompts in one request."""

    model: str
    engine: str
    quantization: str
    dtype: str
    batch: int
    tensor_parallel_degree: int
    workers: int
    instance_type: str
    instance_count: int


@dataclass(frozen=True)
class Load:
    """A closed loop: `concurrency` clients, each of which sends again as soon as it has its reply."""

    mode: str
    concurrency: int


@dataclass(frozen=True)
class Benchmark:
    """A whole benchmark; `max_seconds` bounds warm-up and measurement together."""

    subject: Subject
    workload: str
    load: Load
    warmup_requests: int
    requests: int
    max_seconds: float
    seed: int
    slo: tuple[Slo, ...]
    on_fail: str

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
        found = shape.faults(document, FIELDS, "benchmark")
        parts = document if isinstance(document, dict) else {}
        if isinstance(parts.get("subject"), dict):
            found += shape.faults(parts["subject"], SUBJECT_FIELDS, "subject")
        if isinstance(parts.get("load"), dict):
            found += shape.faults(parts["load"], LOAD_FIELDS, "load")
        slo = []
        for position, target in enumerate(parts["slo"] if isinstance(parts.get("slo"), list) else []):
            try:
                slo.append(Slo.from_dict(target, f"slo[{position}]"))
            except FormatError as error:
                found += error.faults
        if found:
            raise FormatError(found)
        rest = {key: document[key] for key in FIELDS if key not in ("format", "subject", "load", "slo")}
        return cls(subject=Subject(**document["subject"]), load=Load(**document["load"]), slo=tuple(slo), **rest)

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self), "slo": [target.to_dict() for target in self.slo]}

    def to_json(self) -> str:
        """One line with sorted keys: equal benchmarks give equal bytes, so a digest of it is stable."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
