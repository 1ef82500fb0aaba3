"""Batches from the benchmark's own recordings: each answered request of a lone client is one. Not a measurement anew.

Requests of several clients waited for each other, in a way that no recording tells; they are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from heavylift.benchmark.samples import Recording, Sample
from heavylift.calibrate.observation import Observation
from heavylift.plan.facts import instances

ALONE = ("warmup", "measure", "quiet", "alone")
PER_CORE = 2  # hardware threads


def observations(recordings: Iterable[Recording], engine: str, dtype: str, small: bool) -> Iterator[Observation]:
    """Of this engine and number format, on processors. `small`: the engine uses one thread for the model."""
    for recording in recordings:
        subject, load = recording.run.benchmark.subject, recording.run.benchmark.load
        fact = instances().get(subject.instance_type)
        alone = load.mode == "closed" and load.concurrency == 1 and subject.instance_count == 1
        if not alone or (subject.engine, subject.dtype) != (engine, dtype) or fact is None or fact.accelerator:
            continue
        share = fact.vcpus / PER_CORE / (subject.tensor_parallel_degree * subject.workers)
        cores = min(1.0, share) if small else share
        for sample in recording.samples:
            seen = _observation(sample, subject.tensor_parallel_degree, cores)
            if seen is not None:
                yield seen


def _observation(sample: Sample, degree: int, cores: float) -> Observation | None:
    prompts = [row.prompt_tokens for row in sample.rows]
    answers = [row.generated_tokens for row in sample.rows]
    counted = [each for each in (*prompts, *answers) if each is not None and each > 0]
    if not sample.ok or sample.phase not in ALONE or len(counted) != 2 * len(sample.rows) or not counted:
        return None
    half = len(sample.rows)
    seconds = sample.end_s - sample.sent_s
    return Observation(degree, cores, tuple(counted[:half]), tuple(counted[half:]), seconds) if seconds > 0 else None
