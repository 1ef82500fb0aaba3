"""Numbers computed from the measured requests of a run: latency, throughput, goodput, errors, quality, cost.

Not whether they are good enough (verdict.py). Probes, warm-up and drain are in none of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

from heavylift.benchmark.percentile import percentile
from heavylift.benchmark.rates import Batches
from heavylift.benchmark.samples import Recording, Row, Sample
from heavylift.benchmark.slo import Slo
from heavylift.benchmark.spec import Benchmark

LATENCIES: Mapping[str, Callable[[Sample], float | None]] = {
    "e2e_latency": lambda sample: sample.latency_ms,
    "service_latency": lambda sample: sample.service_ms,
    "ttft": lambda sample: sample.ttft_ms,
    "tpot": lambda sample: sample.tpot_ms,
}

METERED: Mapping[str, str] = {
    "tokens_per_second": "tokens", "cost_per_1m_tokens_usd": "tokens", "requests_per_second": "answered",
    "goodput": "good", "cost_per_1k_good_requests_usd": "good",
}  # fmt: skip
PER: Mapping[str, int] = {"cost_per_1k_good_requests_usd": 1000, "cost_per_1m_tokens_usd": 1_000_000}


class Measurement:
    """The measured part of one recording. Every number is None where the recording has nothing to compute it from."""

    def __init__(self, recording: Recording) -> None:
        self._set(recording.run.benchmark, recording.measured, recording.samples)

    @classmethod
    def of(cls, benchmark: Benchmark, measured: Sequence[Sample]) -> Measurement:
        """Of a run that is not over."""
        made = cls.__new__(cls)
        made._set(benchmark, tuple(measured), tuple(measured))
        return made

    def _set(self, benchmark: Benchmark, measured: tuple[Sample, ...], everything: tuple[Sample, ...]) -> None:
        self.benchmark, self.samples, self._everything = benchmark, measured, everything
        self.answered = tuple(sample for sample in measured if sample.ok)
        self.rows = tuple(row for sample in measured for row in sample.rows)

    def of_answered(self, metric: str) -> list[float]:
        """A latency of each answered request that has it, in ms, in order of intended send."""
        values = (LATENCIES[metric](sample) for sample in self.answered)
        return [value for value in values if value is not None]

    def of_due(self, metric: str) -> list[float]:
        """The same over all measured requests: a failed one is infinitely slow. Empty where no answer has it, although
        there are answers."""
        if self.answered and not self.of_answered(metric):
            return []
        values = (LATENCIES[metric](sample) if sample.ok else math.inf for sample in self.samples)
        return [value for value in values if value is not None]

    @property
    def latencies_ms(self) -> list[float]:
        """Of the answered requests, in order of intended send."""
        return self.of_answered("e2e_latency")

    @property
    def gaps_ms(self) -> list[float]:
        """Between content tokens, of all answered requests."""
        return [gap / 1000 for sample in self.answered for gap in sample.gaps_us or ()]

    def tested(self, metric: str) -> list[float]:
        """What a percentile is of: a value for each due request; for `itl` one for each gap, and an infinite one for
        each request where none was answered."""
        if metric != "itl":
            return self.of_due(metric)
        return self.gaps_ms if self.answered else [math.inf] * len(self.samples)

    @property
    def lags_ms(self) -> list[float]:
        """How late each measured request was sent."""
        return [sample.lag_ms for sample in self.samples]

    @property
    def window_s(self) -> float | None:
        """From the first intended send to the last end, in seconds."""
        if not self.samples:
            return None
        return max(sample.end_s for sample in self.samples) - min(sample.intended_s for sample in self.samples)

    @property
    def requests_per_second(self) -> float | None:
        """Answered requests over the window."""
        return len(self.answered) / self.window_s if self.window_s else None

    def tokens(self, field: str) -> int | None:
        """Sum of `prompt_tokens` or `generated_tokens` of the answered requests; None if any of them has no counts."""
        counts = [getattr(row, field) for sample in self.answered for row in sample.rows]
        return None if None in counts else sum(counts)

    @property
    def tokens_per_second(self) -> float | None:
        generated = self.tokens("generated_tokens")
        return None if generated is None or not self.window_s else generated / self.window_s

    @property
    def error_rate(self) -> float | None:
        return (len(self.samples) - len(self.answered)) / len(self.samples) if self.samples else None

    @property
    def errors_by_kind(self) -> dict[str, int]:
        """Failed requests by their kind, the most frequent first."""
        return dict(Counter(sample.error["kind"] for sample in self.samples if sample.error is not None).most_common())

    @property
    def quality(self) -> float | None:
        """Of the rows that have a right answer."""
        return _share_correct(self.rows)

    @property
    def quality_by_task(self) -> dict[str, float]:
        """Share of correct rows of each task, in order of first appearance."""
        tasks = dict.fromkeys(row.task for row in self.rows)
        shares = {task: _share_correct(row for row in self.rows if row.task == task) for task in tasks}
        return {task: share for task, share in shares.items() if share is not None}

    @property
    def degenerate(self) -> dict[str, int]:
        """Rows whose output no model should give, by what it is."""
        return dict(Counter(row.fault for row in self.rows if row.fault is not None).most_common())

    @property
    def good(self) -> tuple[bool, ...]:
        """Which measured requests are good: answered, right, not degenerate, and within every latency target."""
        return tuple(map(self._is_good, self.samples))

    def _is_good(self, sample: Sample) -> bool:
        if not sample.ok or any(row.correct is False or row.fault is not None for row in sample.rows):
            return False
        for slo in self.benchmark.slo:
            if slo.metric == "itl":
                if sample.gaps_us and fmean(sample.gaps_us) / 1000 > slo.limit:
                    return False
            elif slo.metric in LATENCIES:
                value = LATENCIES[slo.metric](sample)
                if value is not None and value > slo.limit:
                    return False
        return True

    @property
    def goodput(self) -> float | None:
        """Good requests over the window."""
        return sum(self.good) / self.window_s if self.window_s else None

    @property
    def good_tokens_per_second(self) -> float | None:
        """Generated tokens of good requests over the window."""
        good = [sample for sample, is_good in zip(self.samples, self.good, strict=True) if is_good]
        counts = [row.generated_tokens for sample in good for row in sample.rows]
        known = [count for count in counts if count is not None]
        return sum(known) / self.window_s if self.window_s and len(known) == len(counts) else None

    @property
    def attainment(self) -> float | None:
        return sum(self.good) / len(self.samples) if self.samples else None

    @property
    def cost_per_1k_good_requests_usd(self) -> float | None:
        """Infinite where nothing was good; None without a price."""
        return _per(self.benchmark.usd_per_second, self.goodput, 1000)

    @property
    def cost_per_1m_tokens_usd(self) -> float | None:
        return _per(self.benchmark.usd_per_second, self.tokens_per_second, 1_000_000)

    def batches(self, slo: Slo) -> tuple[Batches, float] | None:
        """A rate's batches, and the limit as the least rate: that of a cost is what it buys. None of too few, or where
        there is no such rate. Asserts that the metric is one."""
        per, price = PER.get(slo.metric), self.benchmark.usd_per_second
        limit = slo.limit if per is None else None
        if per is not None and price is not None and slo.limit > 0:
            limit = per * price / slo.limit
        kind, tokens = METERED[slo.metric], self.tokens("generated_tokens")
        if limit is None or not self.samples or (kind == "tokens" and tokens is None):
            return None
        ends = sorted(zip((sample.end_s for sample in self.samples), self._amounts(kind), strict=True))
        start = min(sample.intended_s for sample in self.samples)
        found = Batches.of(ends, start, self.benchmark.together)
        return None if found is None else (found, limit)

    def _amounts(self, kind: str) -> list[float]:
        """What each measured request adds to a rate."""
        if kind == "good":
            return [float(good) for good in self.good]
        if kind == "answered":
            return [float(sample.ok) for sample in self.samples]
        counts = ([row.generated_tokens or 0 for row in sample.rows] if sample.ok else [] for sample in self.samples)
        return [float(sum(count)) for count in counts]

    @property
    def batch_invariance(self) -> float | None:
        return _share(self.batch_pairs)

    @property
    def load_invariance(self) -> float | None:
        return _share(self.load_pairs)

    @property
    def batch_pairs(self) -> list[bool]:
        """For each prompt that was asked alone and in a batch, both unloaded: whether all its outputs are equal."""
        return _compare(self._outputs("alone"), self._outputs("quiet"))

    @property
    def load_pairs(self) -> list[bool]:
        """For each measured prompt that was asked in its batch unloaded: whether all its outputs are equal."""
        return _compare(self._outputs("quiet"), self._outputs("measure"))

    def _outputs(self, phase: str) -> dict[int, list[str]]:
        """By the prompt's number: its outputs in a phase."""
        found: dict[int, list[str]] = {}
        for sample in self._everything:
            for row in sample.rows if sample.phase == phase else ():
                if row.example is not None and row.output is not None:
                    found.setdefault(row.example, []).append(row.output)
        return found

    def value(self, slo: Slo) -> float | None:
        """The number that a target is compared with; a latency is infinite where the rank falls on a failed request."""
        if slo.percentile is not None:
            due = self.tested(slo.metric)
            return percentile(due, slo.percentile) if due else None
        value: float | None = getattr(self, slo.metric)
        return value


def _share_correct(rows: Iterable[Row]) -> float | None:
    return _share([row.correct for row in rows if row.correct is not None])


def _share(marks: Sequence[bool]) -> float | None:
    return sum(marks) / len(marks) if marks else None


def _per(usd_per_second: float | None, rate: float | None, count: int) -> float | None:
    if usd_per_second is None or rate is None:
        return None
    return count * usd_per_second / rate if rate else math.inf


def _compare(one: dict[int, list[str]], other: dict[int, list[str]]) -> list[bool]:
    shared = (one[number] + other[number] for number in one if number in other)
    return [len(set(outputs)) == 1 for outputs in shared]
