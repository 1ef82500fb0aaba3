"""Several recordings as one: legs that ran one after the other, shards that ran at the same time.

Not an average of anything: every sample of every part is in the whole, so its percentiles are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from heavylift.benchmark.overhead import Overhead
from heavylift.benchmark.samples import Recording, Run, Sample
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import settled


def in_sequence(legs: Sequence[Recording], benchmark: Benchmark) -> Recording:
    """Legs as one run of `benchmark`: each begins where the one before it ended. Raises FormatError for unlike legs."""
    samples: list[Sample] = []
    start = 0.0
    for leg in legs:
        samples += [_later(sample, start) for sample in leg.samples]
        start = max((sample.end_s for sample in samples), default=0.0)
    limit = sum(leg.run.time_limit_s for leg in legs)
    run = _run([leg.run for leg in legs], benchmark, limit)
    told = [leg.run.sagemaker for leg in legs if leg.run.sagemaker is not None]
    return Recording(replace(run, sagemaker=Overhead.of(told)), _numbered(samples))


def side_by_side(shards: Sequence[Recording], benchmark: Benchmark) -> Recording:
    """Shards that began at the same time as one run of `benchmark`. Raises FormatError for unlike shards.

    Independent Poisson arrivals add up to one Poisson process of the sum of their rates (J. F. C. Kingman, "Poisson
    Processes", the superposition theorem), so k shards of rate / k are the load that one generator would have offered.
    """
    samples = [sample for shard in shards for sample in shard.samples]
    limit = max(shard.run.time_limit_s for shard in shards)
    run = _run([shard.run for shard in shards], benchmark, limit)
    told = [shard.run.sagemaker for shard in shards if shard.run.sagemaker is not None]  # all of the same minutes
    most = max(told, key=lambda each: each.invocations, default=None)
    return Recording(replace(run, sagemaker=most), _numbered(samples))


def cut_after(recording: Recording, measured: int) -> Recording:
    """The same run, in which what came after so many measured requests is drain: nobody looked at it."""
    last = [sample.index for sample in recording.measured][measured - 1]
    samples = (
        replace(sample, phase="drain") if sample.phase == "measure" and sample.index > last else sample
        for sample in recording.samples
    )
    return replace(recording, samples=tuple(samples))


def looked_at(whole: Recording) -> tuple[Recording, bool]:
    """A run so far, cut where one of the plan's looks settles the verdict; and whether one does."""
    benchmark, measured = whole.run.benchmark, whole.measured
    for count in benchmark.plan.counts:
        if count <= len(measured) and settled(benchmark, benchmark.plan, measured[:count]):
            stopped = "planned" if count == benchmark.plan.most_requests else "decided"
            cut = cut_after(whole, count)
            return replace(cut, run=replace(cut.run, stopped=stopped)), True
    return whole, False


def _numbered(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """In order of intended send, numbered anew."""
    ordered = sorted(samples, key=lambda sample: (sample.intended_s, sample.sent_s, sample.index))
    return tuple(replace(sample, index=index) for index, sample in enumerate(ordered))


def _later(sample: Sample, seconds: float) -> Sample:
    def moved(time: float) -> float:
        return round(time + seconds, 6)

    return replace(
        sample,
        intended_s=moved(sample.intended_s),
        sent_s=moved(sample.sent_s),
        end_s=moved(sample.end_s),
        first_byte_s=None if sample.first_byte_s is None else moved(sample.first_byte_s),
        first_token_s=None if sample.first_token_s is None else moved(sample.first_token_s),
        written_s=None if sample.written_s is None else moved(sample.written_s),
        head_s=None if sample.head_s is None else moved(sample.head_s),
    )


def _run(runs: Sequence[Run], benchmark: Benchmark, time_limit: float) -> Run:
    first = runs[0]
    for key in ("run", "endpoint", "endpoint_config", "gate_digest", "workload_digest"):
        if len(values := {getattr(run, key) for run in runs}) > 1:
            shown = ", ".join(sorted(map(str, values)))
            raise FormatError([f"these parts are not of one run: their {key} is {shown}"])
    # One part that saw another config is enough to make the whole void.
    strange = [run.observed_endpoint_config for run in runs if run.observed_endpoint_config != run.endpoint_config]
    shares = [run.cpu_share for run in runs if run.cpu_share is not None]
    unsteady = [run for run in runs if run.stopped == "unsteady"]
    generators = list(dict.fromkeys(run.generator for run in runs))
    return replace(
        first,
        benchmark=benchmark,
        plan=benchmark.plan,
        observed_endpoint_config=strange[0] if strange else first.observed_endpoint_config,
        started_at=min(run.started_at for run in runs),
        time_limit_s=time_limit,
        generator=f"{len(runs)} parts: {'; '.join(generators)}" if len(runs) > 1 else first.generator,
        stationary=unsteady[0].stationary if unsteady else first.stationary,
        stopped=unsteady[0].stopped if unsteady else runs[-1].stopped,
        cpu_share=max(shares, default=None),
    )
