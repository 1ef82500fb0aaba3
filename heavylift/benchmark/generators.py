"""Several Lambdas that share one load: a Distributed Map of Step Functions runs them, and one more merges and answers.

Not what each sends (shards.py). The request of CloudFormation, with its ResponseURL, waits in the report bucket: who
may read a state machine's history finds the name of an object there, and no signed URL.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import boto3

from heavylift.benchmark import outcome
from heavylift.benchmark.cloudwatch import metrics_of
from heavylift.benchmark.gate import Gate, GateClosed, Shared
from heavylift.benchmark.lease import folder
from heavylift.benchmark.load import OpenLoad
from heavylift.benchmark.run import measure
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.sender import sender
from heavylift.benchmark.shards import Window, part_of, whole_of
from heavylift.benchmark.stack import wanted_no_more
from heavylift.benchmark.stage import described

START_S = 20.0  # from the start of the state machine until all of its children run


@dataclass(frozen=True)
class Share:
    """What the state machine hands to each of its Lambdas: where the request is, the run, and when all begin (seconds
    since the epoch)."""

    request: str
    run: str
    begin: float

    def event(self, bucket: str) -> dict[str, Any]:
        """CloudFormation's request."""
        body = boto3.client("s3").get_object(Bucket=bucket, Key=self.request)["Body"].read()
        event: dict[str, Any] = json.loads(body)
        return event


def start(event: Mapping[str, Any], gate: Gate, shared: Shared, bucket: str) -> None:
    """Keep the request, and start the state machine. Raises GateClosed for what it cannot do."""
    machine, load = event["ResourceProperties"].get("StateMachineArn"), gate.benchmark.load
    if not isinstance(machine, str) or not isinstance(load, OpenLoad):
        raise GateClosed("the gate's properties lack StateMachineArn; a load by several generators needs it")
    seconds, price = Window.of(gate.benchmark).end_s, gate.benchmark.usd_per_second
    if gate.benchmark.max_usd is not None and price is not None and price * seconds > gate.benchmark.max_usd:
        cost = f"{price * seconds:.4f} USD, more than max_usd, {gate.benchmark.max_usd:g}"
        raise GateClosed(f"{seconds:.0f} s of load by {load.generators} generators would cost {cost}")
    key = f"{folder(gate.benchmark.subject.model, event['RequestId'])}.request.json"
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=json.dumps(dict(event)).encode())
    share = Share(key, shared.run, time.time() + START_S)
    asked = {"share": asdict(share), "generators": list(range(load.generators))}
    boto3.client("stepfunctions").start_execution(
        stateMachineArn=machine, name=event["RequestId"], input=json.dumps(asked)
    )


def generate(share: Share, index: int, bucket: str, seconds: float) -> int:
    """One generator's part of the load; gives how many requests it sent. `seconds` is what its Lambda has."""
    event = share.event(bucket)
    gate = Gate.from_properties(event["ResourceProperties"]).measuring(event["ResourceProperties"])
    stage = gate.stage()
    if not stage.ready():
        raise GateClosed(f"{stage.place} is not in service")
    part = part_of(gate.benchmark, index)
    recording = measure(
        part,
        sender(part, stage.place),
        run=share.run,
        endpoint=str(stage.place),
        endpoint_config=stage.place.config,
        gate_digest=gate.digest,
        time_limit=seconds - max(0.0, share.begin - time.time()),
        observe=lambda: str((described(stage.place.endpoint) or {}).get("EndpointConfigName")),
        metrics=metrics_of(stage.place, part),
        taken_back=lambda: wanted_no_more(event["StackId"]),
        begin=share.begin,
    )
    outcome.save(bucket, _key(gate, share, index), recording)
    return len(recording.samples)


def gathered(share: Share, gate: Gate, bucket: str) -> Recording:
    """All parts as one run."""
    assert isinstance(gate.benchmark.load, OpenLoad)
    parts = [outcome.load(bucket, _key(gate, share, index)) for index in range(gate.benchmark.load.generators)]
    return whole_of(parts, gate.benchmark)


def _key(gate: Gate, share: Share, index: int) -> str:
    return f"{outcome.folder(gate.benchmark, share.run)}/shards/{index:03}.jsonl.gz"
