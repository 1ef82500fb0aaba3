"""Is run B slower, slimmer or worse than run A? Differences with their intervals, and what they allow to say.

Not the statistics (resample.py) nor the table (versus.py). A difference is `worse` or `better` only where its whole
interval lies beyond the tolerance, `same` where the whole interval lies within it, and else `unclear`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from heavylift.benchmark.percentile import percentile
from heavylift.benchmark.samples import Recording, Sample
from heavylift.errors import InputError
from heavylift.report import resample
from heavylift.report.answers import Task, paired

if TYPE_CHECKING:
    import numpy as np

FORMAT = "heavylift.comparison/1"
PERCENTILES = (50, 90, 99)
SEED = 7
CONFIDENCE = 0.95
SLICES = 20
FEWEST_BEYOND = 5  # slower requests that a sample must have, on average, to say anything of a percentile


@dataclass(frozen=True)
class Difference:
    """One number of both sides. `change` is B / A (or B - A for shares), `low`..`high` its interval."""

    name: str
    unit: str
    a: float | None
    b: float | None
    change: float | None
    low: float | None
    high: float | None
    kind: str
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """`differs` has what is not the same of the two subjects; `unlike` why the two should not be compared at all."""

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    differs: Mapping[str, tuple[Any, Any]]
    unlike: tuple[str, ...]
    differences: tuple[Difference, ...]
    tasks: tuple[Task, ...]
    ks_distance: float | None
    confidence: float
    tolerance: float
    method: str

    @property
    def verdict(self) -> str:
        """`worse` if anything is, else `better` if anything is, else `unclear` if anything is, else `same`."""
        found = [*(row.verdict for row in self.differences), *(row.verdict for row in self.tasks)]
        return next((verdict for verdict in ("worse", "better", "unclear") if verdict in found), "same")

    def to_dict(self) -> dict[str, Any]:
        """`heavylift.comparison/1`; a number that is infinite or was not measured is null."""
        return {"format": FORMAT, "verdict": self.verdict, **_finite(asdict(self))}


def compare(
    a: Sequence[Recording], b: Sequence[Recording], *, tolerance: float = 0.05, force: bool = False, seed: int = SEED
) -> Comparison:
    """Compare the runs of two sides; several of one side are pooled, and resampled as runs.

    Raises InputError for unlike workloads unless forced, and where a side has no measured request.
    """
    import numpy as np

    unlike = tuple(_unlike([*a, *b]))
    faults = [f"side {name} has no measured request" for name, runs in (("A", a), ("B", b)) if not _due(runs)]
    if unlike and not force:
        faults += [f"{reason}; compare like with like, or add --force" for reason in unlike]
    if faults:
        raise InputError(faults)
    rng = np.random.default_rng(seed)
    tasks = dict.fromkeys(row.task for run in a for sample in run.measured for row in sample.rows)
    measures = (_latencies, _rates, _errors)
    risk = (1 - CONFIDENCE) / (len(PERCENTILES) + 3 + (0 if unlike else len(tasks)))
    differences = [found for measure in measures for found in measure(a, b, risk, tolerance, rng)]
    pooled = [[value for run in _latencies_of(runs) for value in run] for runs in (a, b)]
    key_a, key_b = _key(a[0]), _key(b[0])
    return Comparison(
        a={**key_a, "runs": [run.run.run for run in a], "requests": len(pooled[0])},
        b={**key_b, "runs": [run.run.run for run in b], "requests": len(pooled[1])},
        differs={key: (key_a[key], key_b[key]) for key in key_a if key_a[key] != key_b[key]},
        unlike=unlike,
        differences=tuple(differences),
        tasks=() if unlike else tuple(paired(a, b, risk)),
        ks_distance=resample.ks_distance(*pooled),
        confidence=CONFIDENCE,
        tolerance=tolerance,
        method=f"percentile intervals of a circular block bootstrap ({resample.resamples(max(map(len, pooled)))} "
        f"resamples, seed {seed}), Newcombe's interval for shares, the exact sign test for answers; "
        f"Bonferroni: all together hold with {CONFIDENCE:.0%}",
    )


def _key(recording: Recording) -> dict[str, Any]:
    """What was measured: the model, how it was served, on what, and by which generator."""
    run = recording.run
    return {
        **asdict(run.benchmark.subject),
        "endpoint_config": run.endpoint_config,
        "gate_digest": run.gate_digest,
        "generator": run.generator,
    }


def _unlike(runs: Sequence[Recording]) -> Iterator[str]:
    """Why two of the runs are not answers to the same question."""
    first = runs[0].run
    said = first.benchmark.to_dict()
    keys = ("workload", "load", "seed", "stream", "api")
    for other in runs[1:]:
        theirs = other.run.benchmark.to_dict()
        for key in keys:
            if said.get(key) != theirs.get(key):
                yield f"{key} is {said.get(key)!r} in {first.run} and {theirs.get(key)!r} in {other.run.run}"
        if first.workload_digest != other.run.workload_digest:
            yield f"the workload's content differs between {first.run} and {other.run.run}"
        if said["subject"]["batch"] != theirs["subject"]["batch"]:
            batches = f"{said['subject']['batch']} and {theirs['subject']['batch']}"
            yield f"requests have {batches} prompts in {first.run} and {other.run.run}"


def _due(runs: Sequence[Recording]) -> int:
    return sum(len(run.measured) for run in runs)


def _latencies_of(runs: Sequence[Recording]) -> list[list[float]]:
    """Latency in ms from the intended send, of each run; infinite for a failed request."""
    return [[sample.latency_ms if sample.ok else math.inf for sample in run.measured] for run in runs if run.measured]


def _latencies(
    a: Sequence[Recording], b: Sequence[Recording], risk: float, tolerance: float, rng: np.random.Generator
) -> Iterator[Difference]:
    sides = [_latencies_of(runs) for runs in (a, b)]
    shares = [percent / 100 for percent in PERCENTILES]
    drawn_a, drawn_b = (resample.resampled_quantiles(side, shares, rng) for side in sides)
    for place, percent in enumerate(PERCENTILES):
        values = [percentile([value for run in side for value in run], percent) for side in sides]
        low, high = resample.ratio_interval(drawn_b[place], drawn_a[place], risk)
        few = min(_due(a), _due(b)) * (1 - shares[place]) < FEWEST_BEYOND
        yield _ratio(f"latency p{percent}", "ms", values, (low, high), tolerance, lower_is_better=True, few=few)


def _rates(
    a: Sequence[Recording], b: Sequence[Recording], risk: float, tolerance: float, rng: np.random.Generator
) -> Iterator[Difference]:
    """Throughput by slices of time, which are resampled; tokens where every reply counts them."""
    for name, unit, weigh in (("requests", "1/s", _one), ("tokens", "1/s", _tokens)):
        sides = [[_slices(run, weigh) for run in runs if len(run.measured) >= SLICES] for runs in (a, b)]
        if not all(sides) or any(math.isnan(rate) for side in sides for run in side for rate in run):
            yield Difference(f"{name} per second", unit, None, None, None, None, None, "ratio", "unclear")
            continue
        drawn_a, drawn_b = (resample.resampled_means(side, rng) for side in sides)
        values = [math.fsum(map(math.fsum, side)) / (SLICES * len(side)) for side in sides]
        interval = resample.ratio_interval(drawn_b, drawn_a, risk)
        yield _ratio(f"{name} per second", unit, values, interval, tolerance, lower_is_better=False)


def _slices(run: Recording, weigh: Callable[[Sample], float]) -> list[float]:
    """What was answered in each of SLICES equal parts of the measured time, per second."""
    start = min(sample.intended_s for sample in run.measured)
    width = (max(sample.end_s for sample in run.measured) - start) / SLICES
    slices = [0.0] * SLICES
    for sample in run.measured:
        if sample.ok:
            slices[min(int((sample.end_s - start) / width), SLICES - 1)] += weigh(sample) / width
    return slices


def _one(_sample: Sample) -> float:
    return 1.0


def _tokens(sample: Sample) -> float:
    counts = [row.generated_tokens for row in sample.rows]
    return math.nan if None in counts else float(sum(count for count in counts if count is not None))


def _errors(
    a: Sequence[Recording], b: Sequence[Recording], risk: float, _tolerance: float, _rng: np.random.Generator
) -> Iterator[Difference]:
    bad = [sum(not sample.ok for run in runs for sample in run.measured) for runs in (a, b)]
    low, high = resample.share_difference((bad[0], _due(a)), (bad[1], _due(b)), risk)
    verdict = "worse" if low > 0 else "better" if high < 0 else "same" if not any(bad) else "unclear"
    rates = bad[0] / _due(a), bad[1] / _due(b)
    yield Difference("failed requests", "share", *rates, rates[1] - rates[0], low, high, "difference", verdict)


def _ratio(
    name: str,
    unit: str,
    values: Sequence[float],
    interval: tuple[float, float],
    tolerance: float,
    *,
    lower_is_better: bool,
    few: bool = False,
) -> Difference:
    a, b = values
    change = 1.0 if a == b else math.inf if a == 0 or math.isinf(b) else b / a
    low, high = interval
    above, below = 1 + tolerance, 1 / (1 + tolerance)
    if few:
        verdict = "unclear"
    elif low > above:
        verdict = "worse" if lower_is_better else "better"
    elif high < below:
        verdict = "better" if lower_is_better else "worse"
    else:
        verdict = "same" if below <= low and high <= above else "unclear"
    return Difference(name, unit, a, b, change, low, high, "ratio", verdict)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
