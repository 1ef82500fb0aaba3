"""The answers of two runs, side by side: which rows one side got right and the other wrong.

Not latency (compare.py). The same seed deals the same prompts to the same requests, so each answer has its pair, and a
difference of one row in ten thousand shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from heavylift.benchmark.samples import Recording, Row
from heavylift.report.resample import sign_test


@dataclass(frozen=True)
class Task:
    """One task's rows, paired by request and place: right in A only (`lost`), right in B only (`gained`). `a` and `b`
    are the shares that are right, `changed` counts the rows whose texts differ."""

    task: str
    rows: int
    a: float | None
    b: float | None
    lost: int
    gained: int
    changed: int
    p_value: float
    verdict: str


def paired(a: Sequence[Recording], b: Sequence[Recording], risk: float) -> Iterator[Task]:
    """One Task for each task that both sides answered, run by run; `risk` is what its verdict may err with."""
    pairs: dict[str, list[tuple[Row, Row]]] = {}
    for one, other in zip(a, b, strict=False):
        # By their place among the measured: how many requests warmed up before them may differ.
        sides = [sorted(run.measured, key=lambda sample: sample.index) for run in (one, other)]
        for sample, theirs in zip(*sides, strict=False):
            for row, pair in zip(sample.rows, theirs.rows, strict=False):
                if (row.task, row.example) == (pair.task, pair.example):
                    pairs.setdefault(row.task, []).append((row, pair))
    for task, rows in pairs.items():
        judged = [(row.correct, pair.correct) for row, pair in rows if None not in (row.correct, pair.correct)]
        lost, gained = judged.count((True, False)), judged.count((False, True))
        p_value = sign_test(lost, gained)
        verdict = "same" if lost == gained == 0 else "unclear"
        if p_value <= risk:
            verdict = "worse" if lost > gained else "better"
        changed = sum(row.output != pair.output for row, pair in rows)
        yield Task(task, len(rows), *_shares(judged), lost, gained, changed, p_value, verdict)


def _shares(judged: Sequence[tuple[bool | None, bool | None]]) -> tuple[float | None, float | None]:
    """Of both sides; None where the workload has no right answers."""
    if not judged:
        return None, None
    a, b = (sum(pair[side] is True for pair in judged) / len(judged) for side in (0, 1))
    return a, b
