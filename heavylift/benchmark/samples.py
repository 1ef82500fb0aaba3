"""The raw record of a benchmark run: one header, one line for each request, and nothing averaged.

Not a judgement; `judge` reads nothing but this. On disk: gzip of JSON lines, the same bytes for the same record.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.spec import Benchmark

FORMAT = "heavylift.samples/1"
CLOCK = "seconds since the first intended send, monotonic"


@dataclass(frozen=True)
class Row:
    """One prompt of a request. A count is None where the reply did not give it, `output` None where there is none."""

    task: str
    prompt_tokens: int | None
    generated_tokens: int | None
    finish_reason: str | None
    correct: bool
    output: str | None


@dataclass(frozen=True)
class Sample:
    """One request. Times in seconds since the first intended send; `error` is {"kind", "message"} or None."""

    index: int
    phase: str
    intended_s: float
    sent_s: float
    end_s: float
    status: str
    http_status: int | None
    error: dict[str, str] | None
    rows: tuple[Row, ...]

    @property
    def latency_ms(self) -> float:
        """End to end, from the intended send: waiting in the client counts."""
        return (self.end_s - self.intended_s) * 1000

    @property
    def ok(self) -> bool:
        return self.status == "ok"


@dataclass(frozen=True)
class Run:
    """What was run where. `observed_endpoint_config` is what SageMaker said after the last request (None by URL);
    `time_limit_s` is when sending had to stop, which is less than max_seconds where a Lambda has less time left."""

    run: str
    endpoint: str
    endpoint_config: str | None
    observed_endpoint_config: str | None
    gate_digest: str | None
    benchmark: Benchmark
    workload_digest: str
    started_at: str
    time_limit_s: float
    generator: str


@dataclass(frozen=True)
class Recording:
    """A run and its samples, in order of intended send."""

    run: Run
    samples: tuple[Sample, ...]

    @property
    def measured(self) -> tuple[Sample, ...]:
        return tuple(sample for sample in self.samples if sample.phase == "measure")

    def encode(self) -> bytes:
        """The bytes of samples.jsonl.gz."""
        return gzip.compress("".join(line + "\n" for line in self._lines()).encode(), mtime=0)

    def _lines(self) -> Iterator[str]:
        head = {"type": "run", "format": FORMAT, **asdict(self.run), "benchmark": self.run.benchmark.to_dict()}
        yield json.dumps({**head, "clock": CLOCK})
        for sample in self.samples:
            yield json.dumps({"type": "sample", **asdict(sample)})

    @classmethod
    def decode(cls, content: bytes) -> Recording:
        """The inverse of `encode`. Raises FormatError for truncated, foreign or malformed content."""
        try:
            lines = [json.loads(line) for line in gzip.decompress(content).decode().splitlines()]
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise FormatError([f"the samples cannot be read: {error}; expected gzip of JSON lines"]) from None
        head = lines[0] if lines and isinstance(lines[0], dict) else {}
        if head.get("type") != "run" or head.get("format") != FORMAT:
            raise FormatError([f"the samples' format is {head.get('format')!r}; this version reads {FORMAT!r}"])
        try:
            return cls(_run(head), tuple(_sample(line) for line in lines[1:]))
        except TypeError as error:
            raise FormatError([f"the samples have a malformed line: {error}"]) from None

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        partial = path.with_name(f".{path.name}")
        partial.write_bytes(self.encode())
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Raises OSError where there is no such file, FormatError where it is something else."""
        return cls.decode(path.read_bytes())


NUMBER, NONE = (int, float), type(None)
RUN_KINDS: dict[str, tuple[type, ...]] = {
    "type": (str,), "format": (str,), "run": (str,), "endpoint": (str,), "endpoint_config": (str, NONE),
    "observed_endpoint_config": (str, NONE), "gate_digest": (str, NONE), "benchmark": (dict,),
    "workload_digest": (str,), "started_at": (str,), "time_limit_s": NUMBER, "generator": (str,), "clock": (str,),
}  # fmt: skip
SAMPLE_KINDS: dict[str, tuple[type, ...]] = {
    "type": (str,), "index": (int,), "phase": (str,), "intended_s": NUMBER, "sent_s": NUMBER, "end_s": NUMBER,
    "status": (str,), "http_status": (int, NONE), "error": (dict, NONE), "rows": (list,),
}  # fmt: skip
ROW_KINDS: dict[str, tuple[type, ...]] = {
    "task": (str,), "prompt_tokens": (int, NONE), "generated_tokens": (int, NONE), "finish_reason": (str, NONE),
    "correct": (bool,), "output": (str, NONE),
}  # fmt: skip


def _run(line: Any) -> Run:
    rest = _typed(line, RUN_KINDS)
    for key in ("type", "format", "clock"):
        del rest[key]
    return Run(**{**rest, "benchmark": Benchmark.from_dict(rest["benchmark"])})


def _sample(line: Any) -> Sample:
    rest = _typed(line, SAMPLE_KINDS)
    if rest.pop("type") != "sample":
        raise TypeError("its type is not 'sample'")
    return Sample(**{**rest, "rows": tuple(Row(**_typed(row, ROW_KINDS)) for row in rest["rows"])})


def _typed(document: Any, kinds: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    """A copy of the object. Raises TypeError unless it has these keys, no others, and their values' types."""
    if not isinstance(document, dict) or document.keys() != kinds.keys():
        raise TypeError(f"its keys are not {', '.join(kinds)}")
    for key, value in document.items():
        if type(value) not in kinds[key]:
            raise TypeError(f"its {key} is {value!r}")
    return dict(document)
