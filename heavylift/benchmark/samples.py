"""The raw record of a benchmark run: one header, one line for each request, and nothing averaged.

Not a judgement; `judge` reads nothing but this. On disk: gzip of JSON lines, the same bytes for the same record.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heavylift.benchmark.looks import Looks, Plan
from heavylift.benchmark.overhead import Overhead
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.stationary import Stationary

FORMAT = "heavylift.samples/1"
CLOCK = "seconds since the first intended send, monotonic"


@dataclass(frozen=True)
class Row:
    """One prompt of a request. A count is None where the reply did not give it, `output` None where there is none,
    `correct` None where the workload has no answer. `example` is its number in the workload, `fault` what
    degenerate.py says of the output."""

    task: str
    prompt_tokens: int | None
    generated_tokens: int | None
    finish_reason: str | None
    correct: bool | None
    output: str | None
    example: int | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Sample:
    """One request. Times in seconds since the first intended send; `error` is {"kind", "message"} or None. Of a
    streamed reply also the first byte's time, the first content token's, and the gaps between content tokens, in us.
    `written_s` and `head_s`: when the request was handed to the connection, and when the reply's head came;
    `server_us`: what the server says of itself (passage.py)."""

    index: int
    phase: str
    intended_s: float
    sent_s: float
    end_s: float
    status: str
    http_status: int | None
    error: dict[str, str] | None
    rows: tuple[Row, ...]
    first_byte_s: float | None = None
    first_token_s: float | None = None
    gaps_us: tuple[int, ...] | None = None
    written_s: float | None = None
    head_s: float | None = None
    server_us: dict[str, int] | None = None

    @property
    def latency_ms(self) -> float:
        """End to end, from the intended send: waiting in the client counts."""
        return (self.end_s - self.intended_s) * 1000

    @property
    def service_ms(self) -> float:
        """From the actual send."""
        return (self.end_s - self.sent_s) * 1000

    @property
    def lag_ms(self) -> float:
        """How late it was sent."""
        return (self.sent_s - self.intended_s) * 1000

    @property
    def ttft_ms(self) -> float | None:
        """From the intended send to the first content token."""
        return None if self.first_token_s is None else (self.first_token_s - self.intended_s) * 1000

    @property
    def tpot_ms(self) -> float | None:
        """(last - first) / (n - 1), n the tokens that the reply counts, else events with content; None for n < 2."""
        if self.gaps_us is None:
            return None
        counted = [row.generated_tokens for row in self.rows if row.generated_tokens is not None]
        tokens = sum(counted) if counted else len(self.gaps_us) + 1
        return sum(self.gaps_us) / 1000 / (tokens - 1) if tokens > 1 else None

    @property
    def ok(self) -> bool:
        return self.status == "ok"


@dataclass(frozen=True)
class Run:
    """What was run where. `observed_endpoint_config` is what SageMaker said after the last request (None by URL);
    `time_limit_s` is when sending had to stop, which is less than max_seconds where a Lambda has less time left.
    `plan` says when the run looked at its verdict, `stopped` why it ended, `cpu_share` how busy the generator was;
    `sagemaker` is what CloudWatch knows of the same minutes."""

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
    plan: Plan | None = None
    stationary: Stationary | None = None
    stopped: str | None = None
    cpu_share: float | None = None
    sagemaker: Overhead | None = None


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
        yield json.dumps(_said({**head, "clock": CLOCK}, RUN_EXTRAS))
        for sample in self.samples:
            rows = [_said(asdict(row), ROW_EXTRAS) for row in sample.rows]
            yield json.dumps(_said({"type": "sample", **asdict(sample), "rows": rows}, SAMPLE_EXTRAS))

    @classmethod
    def decode(cls, content: bytes) -> Recording:
        """The inverse of `encode`. Raises FormatError for truncated, foreign or malformed content, and for what unpacks
        to more than any run has."""
        lines = _documents(content)
        head: Any = next(lines, {})
        if not isinstance(head, dict) or head.get("type") != "run" or head.get("format") != FORMAT:
            found = head.get("format") if isinstance(head, dict) else head
            raise FormatError([f"the samples' format is {found!r}; this version reads {FORMAT!r}"])
        samples: dict[int, Sample] = {}
        number = 1
        try:
            run = _run(head)
            for line in lines:
                number += 1
                sample = _sample(line)
                if sample.index in samples:
                    raise TypeError(f"a second request {sample.index}")
                if len(samples) == MOST_SAMPLES:
                    raise TypeError(f"no run has more than {MOST_SAMPLES} requests")
                samples[sample.index] = sample
        except FormatError:
            raise
        except (TypeError, ValueError, OverflowError) as error:
            raise FormatError([f"the samples have a malformed line {number}: {error}"]) from None
        return cls(run, tuple(samples.values()))

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        partial = path.with_name(f".{path.name}")
        partial.write_bytes(self.encode())
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Raises OSError where there is no such file, FormatError where it is something else."""
        return cls.decode(path.read_bytes())


# More than a run has (benchmark.requests and its warm-up), and more than one request is on disk.
MOST_SAMPLES, MOST_LINE = 2_000_000, 16 * 1024 * 1024
LARGEST = 1e12  # of any number: none is infinite, none is negative
PHASES, STATUSES = ("quiet", "alone", "warmup", "measure", "drain"), ("ok", "error", "timeout")
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
    "correct": (bool, NONE), "output": (str, NONE),
}  # fmt: skip
# Keys that older files lack, and that are left out where they would be null.
RUN_EXTRAS: dict[str, tuple[type, ...]] = {
    "plan": (dict,), "stationary": (dict,), "stopped": (str,), "cpu_share": NUMBER, "sagemaker": (dict,),
}  # fmt: skip
SAMPLE_EXTRAS: dict[str, tuple[type, ...]] = {
    "first_byte_s": NUMBER, "first_token_s": NUMBER, "gaps_us": (list,), "written_s": NUMBER, "head_s": NUMBER,
    "server_us": (dict,),
}  # fmt: skip
ROW_EXTRAS: dict[str, tuple[type, ...]] = {"example": (int,), "fault": (str,)}
PLAN_KINDS: dict[str, tuple[type, ...]] = {
    "requests": (int,), "most_requests": (int,), "pass_looks": (list,), "fail_looks": (list,),
}  # fmt: skip
SAGEMAKER_KINDS: dict[str, tuple[type, ...]] = {
    "invocations": (int,), "model_ms": NUMBER, "overhead_ms": NUMBER, "first_chunk": (bool,),
}  # fmt: skip
STATIONARY_KINDS: dict[str, tuple[type, ...]] = {"reached": (bool,), "after_requests": (int,), "reason": (str,)}


def _said(document: dict[str, Any], extras: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None or key not in extras}


def _documents(content: bytes) -> Iterator[Any]:
    """The JSON of each line, one after another. Raises FormatError for what is no gzip of JSON lines."""
    try:
        with gzip.open(io.BytesIO(content)) as file:
            while line := file.readline(MOST_LINE + 1):
                if len(line) > MOST_LINE:
                    raise ValueError(f"a line is longer than {MOST_LINE} bytes")
                yield json.loads(line.decode())
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise FormatError([f"the samples cannot be read: {error}; expected gzip of JSON lines"]) from None


def _run(line: Any) -> Run:
    rest = _typed(line, RUN_KINDS, RUN_EXTRAS)
    for key in ("type", "format", "clock"):
        del rest[key]
    if "plan" in rest:
        plan = _typed(rest["plan"], PLAN_KINDS)
        looks = {key: _looks(plan[key]) for key in ("pass_looks", "fail_looks")}
        if not 0 < plan["requests"] <= plan["most_requests"]:
            raise TypeError(f"its plan is {plan['requests']} requests, {plan['most_requests']} at most")
        rest["plan"] = Plan(plan["requests"], plan["most_requests"], **looks)
    if "stationary" in rest:
        rest["stationary"] = Stationary(**_typed(rest["stationary"], STATIONARY_KINDS))
    if "sagemaker" in rest:
        rest["sagemaker"] = Overhead(**_typed(rest["sagemaker"], SAGEMAKER_KINDS))
    return Run(**{**rest, "benchmark": Benchmark.from_dict(rest["benchmark"])})


def _looks(pairs: list[Any]) -> Looks:
    """Raises TypeError for what are not counts, ascending, with shares of the error that sum to 1 at most."""
    looks = tuple((int(count), float(share)) for count, share in pairs)
    counts, total = [count for count, _ in looks], sum(share for _, share in looks)
    ascending = counts == sorted(set(counts)) and counts[0] > 0 if counts else False
    if not ascending or not all(share > 0 for _, share in looks) or not total < 1.000001:
        raise TypeError(f"its looks are {pairs!r}")
    return looks


def _sample(line: Any) -> Sample:
    rest = _typed(line, SAMPLE_KINDS, SAMPLE_EXTRAS)
    if rest.pop("type") != "sample":
        raise TypeError("its type is not 'sample'")
    if rest["phase"] not in PHASES or rest["status"] not in STATUSES:
        raise TypeError(f"its phase is {rest['phase']!r} and its status {rest['status']!r}")
    if (rest["error"] is None) != (rest["status"] == "ok"):
        raise TypeError(f"its status is {rest['status']!r} and its error {rest['error']}")
    if rest["error"] is not None and sorted(rest["error"]) != ["kind", "message"]:
        raise TypeError(f"its error is {rest['error']}")
    if "gaps_us" in rest:
        if any(type(gap) is not int or not 0 <= gap < LARGEST for gap in rest["gaps_us"]):
            raise TypeError("its gaps_us are not whole microseconds")
        rest["gaps_us"] = tuple(rest["gaps_us"])
    if any(type(us) is not int or us < 0 for us in rest.get("server_us", {}).values()):
        raise TypeError(f"its server_us are {rest['server_us']!r}")
    return Sample(**{**rest, "rows": tuple(Row(**_typed(row, ROW_KINDS, ROW_EXTRAS)) for row in rest["rows"])})


def _typed(
    document: Any, kinds: dict[str, tuple[type, ...]], extras: dict[str, tuple[type, ...]] | None = None
) -> dict[str, Any]:
    """A copy of the object. Raises TypeError unless it has these keys, no others but `extras`, of these types."""
    known = kinds if extras is None else {**kinds, **extras}
    if not isinstance(document, dict) or not kinds.keys() <= document.keys() <= known.keys():
        raise TypeError(f"its keys are not {', '.join(kinds)}")
    for key, value in document.items():
        if type(value) not in known[key] or (type(value) in NUMBER and not 0 <= value < LARGEST):
            raise TypeError(f"its {key} is {value!r}")
    return dict(document)
