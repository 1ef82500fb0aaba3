"""The gate: is this the endpoint that was deployed, how does it perform, and may the deployment go on?

Not CloudFormation's protocol (answer.py, handler.py), nor who may work on a request (lease.py).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import boto3

from heavylift.benchmark.answer import Answer
from heavylift.benchmark.client import READ_TIMEOUT, SageMakerClient
from heavylift.benchmark.merge import cut_after, in_sequence
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure, run_name
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import Verdict, judge, settled
from heavylift.benchmark.violation import publish

logger = logging.getLogger(__name__)

# For the last request to end, and then for judging, two uploads and the answer.
RESERVE = READ_TIMEOUT + 20.0
STAYS = {"held": ", and is held for you to decide", "warned": ", and stays with a warning"}
SHORTEST_LEG = 20.0  # seconds: less is not worth another warm-up


class GateClosed(Exception):
    """The endpoint cannot be benchmarked; the message says why."""


@dataclass(frozen=True)
class Leg:
    """Where a run stands that is longer than one Lambda: its name, which leg is next, the seconds that are used up."""

    run: str
    number: int = 1
    used_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Gate:
    """What the custom resource's properties ask for."""

    endpoint: str
    endpoint_config: str
    digest: str
    benchmark: Benchmark

    @classmethod
    def from_properties(cls, properties: Mapping[str, Any]) -> Gate:
        """Raises GateClosed for a missing property, FormatError for a malformed benchmark."""
        names = ("EndpointName", "EndpointConfigName", "GateDigest", "Benchmark")
        if missing := [name for name in names if not isinstance(properties.get(name), str)]:
            raise GateClosed(f"the gate's properties lack {', '.join(missing)}; needed: {', '.join(names)}")
        endpoint, config, digest, benchmark = (properties[name] for name in names)
        return cls(endpoint, config, digest, Benchmark.from_json(benchmark))

    def run(self, *, bucket: str, seconds_left: float, leg: Leg | None = None) -> Answer | Leg:
        """Benchmark the endpoint, keep samples and report in `bucket`, and answer by the verdict.

        `seconds_left` is what the Lambda has. A run that needs longer ends this leg in time, keeps its samples, and
        gives the Leg that comes next. Raises GateClosed, and whatever boto3 raises.
        """
        if seconds_left <= RESERVE:
            raise GateClosed(
                f"the Lambda has {seconds_left:.0f} s left; a benchmark needs more than {RESERVE:.0f} s: "
                "raise its timeout"
            )
        self._assert_deployed()
        here = Leg(run_name(self.digest)) if leg is None else leg
        seconds, time_left = seconds_left - RESERVE, self.benchmark.max_seconds - here.used_s
        if here.number == 1 and (time_left <= seconds or time_left - seconds < SHORTEST_LEG):
            return self._conclude(bucket, here.run, self._measure(self.benchmark, here.run, seconds))
        folder = f"reports/{self.benchmark.subject.model}/{here.run}/legs"
        legs = [_load(bucket, f"{folder}/{number}.jsonl.gz") for number in range(1, here.number)]
        measured = sum(len(each.measured) for each in legs)
        # A leg looks at no verdict: the looks, and the errors that they may make, are those of the whole.
        part = replace(
            self.benchmark,
            requests=self.benchmark.plan.most_requests - measured,
            max_seconds=time_left,
            seed=self.benchmark.seed + here.number - 1,  # the prompts and arrivals of another leg are others
            slo=(),
        )
        legs.append(self._measure(part, here.run, seconds))
        used = here.used_s + min(seconds, time_left)
        whole, decided = self._looked_at(in_sequence(legs, self.benchmark))
        over = decided or legs[-1].run.stopped != "time" or self.benchmark.max_seconds - used < SHORTEST_LEG
        if over:
            return self._conclude(bucket, here.run, whole)
        _save(bucket, f"{folder}/{here.number}.jsonl.gz", legs[-1])
        return Leg(here.run, here.number + 1, used)

    def _measure(self, benchmark: Benchmark, run: str, seconds: float) -> Recording:
        return measure(
            benchmark,
            SageMakerClient(self.endpoint, concurrency=benchmark.load.concurrency),
            run=run,
            endpoint=self.endpoint,
            endpoint_config=self.endpoint_config,
            gate_digest=self.digest,
            time_limit=seconds,
            observe=lambda: str(self._describe()["EndpointConfigName"]),
        )

    def _looked_at(self, whole: Recording) -> tuple[Recording, bool]:
        """The run so far, cut where one of the plan's looks settles the verdict; and whether one does."""
        plan, measured = self.benchmark.plan, whole.measured
        for count in plan.counts:
            if count <= len(measured) and settled(self.benchmark, plan, measured[:count]):
                stopped = "planned" if count == plan.most_requests else "decided"
                cut = cut_after(whole, count)
                return replace(cut, run=replace(cut.run, stopped=stopped)), True
        return whole, False

    def _conclude(self, bucket: str, run: str, recording: Recording) -> Answer:
        """Judge, keep samples and report, put the metric, answer."""
        verdict = judge(recording)
        folder = f"reports/{self.benchmark.subject.model}/{run}"
        samples, uri = f"{folder}/samples.jsonl.gz", f"s3://{bucket}/{folder}/report.json"
        report = build_report(recording, verdict, samples=f"s3://{bucket}/{samples}")
        _save(bucket, samples, recording)
        boto3.client("s3").put_object(
            Bucket=bucket,
            Key=f"{folder}/report.json",
            Body=json.dumps(report, indent=2).encode(),
            ContentType="application/json",
        )
        publish(self.endpoint, verdict.verdict)
        return self._answer(verdict, uri)

    def _assert_deployed(self) -> None:
        """SageMaker may be InService again on the old config after an update that failed: that is not ours to pass."""
        endpoint = self._describe()
        status, config = endpoint["EndpointStatus"], endpoint["EndpointConfigName"]
        if status != "InService":
            raise GateClosed(f"the endpoint {self.endpoint} is {status}, not InService; nothing was benchmarked")
        if config != self.endpoint_config:
            raise GateClosed(
                f"the endpoint {self.endpoint} is InService with the config {config}, not with {self.endpoint_config}, "
                "which was deployed; nothing was benchmarked"
            )

    def _describe(self) -> dict[str, Any]:
        endpoint: dict[str, Any] = boto3.client("sagemaker").describe_endpoint(EndpointName=self.endpoint)
        return endpoint

    def _answer(self, verdict: Verdict, uri: str) -> Answer:
        decision = decide(verdict.verdict, self.benchmark)
        passed = verdict.verdict == "PASS"
        why = "; ".join(verdict.sentences)
        reason = f"{self.endpoint} met its targets; report: {uri}"
        if not passed:
            met = "missed its targets" if verdict.verdict == "FAIL" else "could not be judged"
            reason = f"{self.endpoint} {met} ({verdict.verdict}){STAYS.get(decision, '')}; report: {uri}; {why}"
        logger.log(logging.INFO if passed else logging.ERROR, reason)
        status = "FAILED" if decision == "rolled back" else "SUCCESS"
        return Answer(status, reason, {"Verdict": verdict.verdict, "Decision": decision, "ReportUri": uri})


def decide(verdict: str, benchmark: Benchmark) -> str:
    """What a verdict does to the deployment: passed, rolled back, held or warned.

    A run that is sound but too small follows `on_inconclusive`; a void one is never better than a missed one.
    """
    if verdict == "PASS":
        return "passed"
    if verdict == "INCONCLUSIVE" and benchmark.on_inconclusive == "pass":
        return "warned"
    return {"rollback": "rolled back", "hold": "held", "warn": "warned"}[benchmark.on_fail]


def _save(bucket: str, key: str, recording: Recording) -> None:
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=recording.encode(), ContentType="application/gzip")


def _load(bucket: str, key: str) -> Recording:
    return Recording.decode(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
