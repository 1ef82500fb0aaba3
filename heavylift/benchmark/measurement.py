"""Numbers computed from the measured requests of a recording: latency, throughput, errors, quality.

Not whether they are good enough (verdict.py). Warm-up requests are in none of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from heavylift.benchmark.percentile import percentile
from heavylift.benchmark.samples import Recording, Row
from heavylift.benchmark.slo import Slo


class Measurement:
    """The measured part of one recording. Every number is None where the recording has nothing to compute it from."""

    def __init__(self, recording: Recording) -> None:
        self.samples = recording.measured
        self.answered = tuple(sample for sample in self.samples if sample.ok)
        self.rows = tuple(row for sample in self.samples for row in sample.rows)

    @property
    def latencies_ms(self) -> list[float]:
        """Of the answered requests, in order of intended send."""
        return [sample.latency_ms for sample in self.answered]

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
        return _share_correct(self.rows)

    @property
    def quality_by_task(self) -> dict[str, float]:
        """Share of correct rows of each task, in order of first appearance."""
        tasks = dict.fromkeys(row.task for row in self.rows)
        shares = {task: _share_correct(row for row in self.rows if row.task == task) for task in tasks}
        return {task: share for task, share in shares.items() if share is not None}

    def value(self, slo: Slo) -> float | None:
        """The number that a target is compared with; a latency is infinite where the rank falls on a failed request."""
        if slo.percentile is not None:
            due = [sample.latency_ms if sample.ok else math.inf for sample in self.samples]
            return percentile(due, slo.percentile) if due else None
        value: float | None = getattr(self, slo.metric)
        return value


def _share_correct(rows: Iterable[Row]) -> float | None:
    marks = [row.correct for row in rows]
    return sum(marks) / len(marks) if marks else None
