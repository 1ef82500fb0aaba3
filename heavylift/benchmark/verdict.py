"""The verdict on a recording: PASS, FAIL, INCONCLUSIVE or VOID, and why. A pure function of the recording.

Not the numbers (measurement.py) nor one target's statistics (judgement.py). VOID means that the measurement cannot
judge; INCONCLUSIVE, that it is sound and too small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from heavylift.benchmark.judgement import Judgement, judge_target, percent
from heavylift.benchmark.looks import Plan, once
from heavylift.benchmark.measurement import Measurement
from heavylift.benchmark.percentile import percentile
from heavylift.benchmark.samples import Recording, Sample
from heavylift.benchmark.slo import Slo
from heavylift.benchmark.spec import Benchmark

__all__ = ["Judgement", "Verdict", "judge", "percent", "settled"]


@dataclass(frozen=True)
class Verdict:
    """`verdict` is VOID when `void` has a reason, else FAIL when a judgement failed, else INCONCLUSIVE when one is
    undecided, else PASS."""

    judgements: tuple[Judgement, ...]
    void: tuple[str, ...]

    @property
    def verdict(self) -> str:
        if self.void:
            return "VOID"
        outcomes = {judgement.outcome for judgement in self.judgements}
        if "fail" in outcomes:
            return "FAIL"
        return "PASS" if outcomes <= {"pass"} else "INCONCLUSIVE"

    @property
    def missed(self) -> tuple[Judgement, ...]:
        return tuple(judgement for judgement in self.judgements if judgement.outcome == "fail")

    @property
    def undecided(self) -> tuple[Judgement, ...]:
        return tuple(judgement for judgement in self.judgements if judgement.outcome == "inconclusive")

    @property
    def sentences(self) -> tuple[str, ...]:
        """Why it is not PASS: the reasons for VOID, then each missed target; else each undecided one."""
        told = self.missed if self.missed or self.void else self.undecided
        return (*self.void, *(judgement.sentence for judgement in told))


def judge(recording: Recording, slo: Sequence[Slo] | None = None) -> Verdict:
    """Judge a recording by its own benchmark's targets, or by others."""
    measurement = Measurement(recording)
    plan = recording.run.plan
    plan = once(max(1, len(recording.measured))) if plan is None else plan
    targets = recording.run.benchmark.slo if slo is None else slo
    judgements = tuple(judge_target(target, measurement, plan) for target in targets)
    return Verdict(judgements, tuple(_void(recording, measurement, judgements)))


def settled(benchmark: Benchmark, plan: Plan, measured: Sequence[Sample]) -> bool:
    """Whether the first so many measured samples decide: a target is missed for good, or all are met. Asked at the
    plan's looks only, whose shares of the error are counted on."""
    measurement = Measurement.of(benchmark, measured)
    count = len(measured)
    judgements = [judge_target(target, measurement, plan) for target in benchmark.slo]
    if any(each.final for each in judgements) and any(count == look for look, _ in plan.fail_looks):
        return True
    could_pass = any(count == look for look, _ in plan.pass_looks)
    return could_pass and all(each.outcome in ("pass", "unmeasured") for each in judgements)


def _void(recording: Recording, measurement: Measurement, judgements: Sequence[Judgement]) -> Iterator[str]:
    run, benchmark, sent = recording.run, recording.run.benchmark, len(recording.measured)
    if run.observed_endpoint_config != run.endpoint_config:
        yield (
            f"after the last request the endpoint had the config {run.observed_endpoint_config}, "
            f"not {run.endpoint_config}: something else was measured"
        )
    if run.stopped == "unsteady" and run.stationary is not None:
        yield f"the endpoint never became steady in {run.stationary.after_requests} requests: {run.stationary.reason}"
        return
    if odd := [sample.index for sample in recording.measured if not sample.end_s >= sample.sent_s]:
        yield f"request {odd[0]} ends before it was sent: these are no measured times"
    planned = 1 if benchmark.requests is None else benchmark.requests
    if (sent < planned and run.stopped not in ("decided", "budget")) or not sent:
        count = f"only {sent} of {planned} measured requests were" if sent else "no measured request was"
        yield f"{count} sent in {run.time_limit_s:g} s, the time limit"
    if sent and benchmark.load.mode == "open":
        lag = percentile(measurement.lags_ms, 99)
        if lag > benchmark.max_lag_ms:
            yield (
                f"the generator lagged: 1 % of its requests were sent {lag:.1f} ms late or more, "
                f"at most {benchmark.max_lag_ms:g} ms: less than the load was offered"
            )
    if sent:
        for judgement in judgements:
            if judgement.outcome == "unmeasured":
                yield f"{judgement.slo.label} cannot be judged: {judgement.unmeasured}"
