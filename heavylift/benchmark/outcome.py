"""What comes of a finished run: samples and report in the bucket, the metric, and the answer to CloudFormation.

Not the verdict itself (verdict.py), nor the protocol of the answer (answer.py).
"""

from __future__ import annotations

import json
import logging

import boto3

from heavylift.benchmark.answer import Answer
from heavylift.benchmark.report import build_report
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import Verdict, judge
from heavylift.benchmark.violation import publish

logger = logging.getLogger(__name__)

STAYS = {"held": ", and is held for you to decide", "warned": ", and stays with a warning"}
NONE = "NONE"  # the verdict of a gate that had nothing to measure


def conclude(recording: Recording, bucket: str, endpoint: str, strategy: str) -> Answer:
    """Judge, keep samples and report, put the metric of a model that serves already, answer.

    What is measured before it serves has violated nothing: its metric is put when it serves.
    """
    verdict = judge(recording)
    benchmark = recording.run.benchmark
    where = folder(benchmark, recording.run.run)
    samples, uri = f"{where}/samples.jsonl.gz", f"s3://{bucket}/{where}/report.json"
    report = build_report(recording, verdict, samples=f"s3://{bucket}/{samples}")
    save(bucket, samples, recording)
    boto3.client("s3").put_object(
        Bucket=bucket,
        Key=f"{where}/report.json",
        Body=json.dumps(report, indent=2).encode(),
        ContentType="application/json",
    )
    decision = decide(verdict.verdict, benchmark)
    if strategy == "after_create":
        publish(endpoint, verdict.verdict)
    elif decision == "held":  # nobody promotes what missed its targets, to hold it then
        decision = "rolled back"
    return _answer(verdict, decision, endpoint, uri)


def _answer(verdict: Verdict, decision: str, endpoint: str, uri: str) -> Answer:
    passed = verdict.verdict == "PASS"
    why = "; ".join(verdict.sentences)
    reason = f"{endpoint} met its targets; report: {uri}"
    if not passed:
        met = "missed its targets" if verdict.verdict == "FAIL" else "could not be judged"
        reason = f"{endpoint} {met} ({verdict.verdict}){STAYS.get(decision, '')}; report: {uri}; {why}"
    logger.log(logging.INFO if passed else logging.ERROR, reason)
    status = "FAILED" if decision == "rolled back" else "SUCCESS"
    return Answer(status, reason, {"Verdict": verdict.verdict, "Decision": decision, "ReportUri": uri})


def nothing_to_protect(endpoint: str) -> Answer:
    """Of a gate that comes before the endpoint, where no older model serves: the gate after it measures."""
    data = {"Verdict": NONE, "Decision": "none", "ReportUri": "none"}
    return Answer("SUCCESS", f"{endpoint} serves no other model yet: it is measured when it is there", data)


def decide(verdict: str, benchmark: Benchmark) -> str:
    """What a verdict does to the deployment: passed, rolled back, held or warned.

    A run that is sound but too small follows `on_inconclusive`; a void one is never better than a missed one.
    """
    if verdict == "PASS":
        return "passed"
    if verdict == "INCONCLUSIVE" and benchmark.on_inconclusive == "pass":
        return "warned"
    return {"rollback": "rolled back", "hold": "held", "warn": "warned"}[benchmark.on_fail]


def folder(benchmark: Benchmark, run: str) -> str:
    """The run's keys in the report bucket begin with it."""
    return f"reports/{benchmark.subject.model}/{run}"


def save(bucket: str, key: str, recording: Recording) -> None:
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=recording.encode(), ContentType="application/gzip")


def load(bucket: str, key: str) -> Recording:
    return Recording.decode(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
