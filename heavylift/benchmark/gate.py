"""The gate: is this the endpoint that was deployed, how does it perform, and may the deployment go on?

Not CloudFormation's protocol (answer.py, handler.py).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3

from heavylift.benchmark.answer import Answer
from heavylift.benchmark.client import READ_TIMEOUT, SageMakerClient
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure, run_name
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import Verdict, judge

logger = logging.getLogger(__name__)

# For the last request to end, and then for judging, two uploads and the answer.
RESERVE = READ_TIMEOUT + 20.0


class GateClosed(Exception):
    """The endpoint cannot be benchmarked; the message says why."""


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

    def run(self, *, bucket: str, seconds_left: float) -> Answer:
        """Benchmark the endpoint, keep samples and report in `bucket`, and answer by the verdict.

        `seconds_left` is what the Lambda has. Raises GateClosed, and whatever boto3 raises.
        """
        if seconds_left <= RESERVE:
            raise GateClosed(
                f"the Lambda has {seconds_left:.0f} s left; a benchmark needs more than {RESERVE:.0f} s: "
                "raise its timeout"
            )
        self._assert_deployed()
        name = run_name(self.digest)
        folder = f"reports/{self.benchmark.subject.model}/{name}"
        recording = measure(
            self.benchmark,
            SageMakerClient(self.endpoint, concurrency=self.benchmark.load.concurrency),
            run=name,
            endpoint=self.endpoint,
            endpoint_config=self.endpoint_config,
            gate_digest=self.digest,
            time_limit=seconds_left - RESERVE,
            observe=lambda: str(self._describe()["EndpointConfigName"]),
        )
        verdict = judge(recording)
        samples, uri = f"{folder}/samples.jsonl.gz", f"s3://{bucket}/{folder}/report.json"
        report = build_report(recording, verdict, samples=f"s3://{bucket}/{samples}")
        s3 = boto3.client("s3")
        s3.put_object(Bucket=bucket, Key=samples, Body=recording.encode(), ContentType="application/gzip")
        s3.put_object(
            Bucket=bucket,
            Key=f"{folder}/report.json",
            Body=json.dumps(report, indent=2).encode(),
            ContentType="application/json",
        )
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
        passed = verdict.verdict == "PASS"
        why = "; ".join(verdict.sentences)
        reason = f"{self.endpoint} met its targets; report: {uri}"
        if not passed:
            met = "could not be judged" if verdict.void else "missed its targets"
            reason = f"{self.endpoint} {met} ({verdict.verdict}); report: {uri}; {why}"
        logger.log(logging.INFO if passed else logging.ERROR, reason)
        status = "SUCCESS" if passed or self.benchmark.on_fail == "warn" else "FAILED"
        return Answer(status, reason, {"Verdict": verdict.verdict, "ReportUri": uri})
