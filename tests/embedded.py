"""One embedded AWS for the tests, and the one-second way to deploy to it: boto3, a change set, no CDK CLI.

Not a test. The endpoints of `embedded_aws` run our runtime; those of `local_aws` the tests' own model server.
"""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from heavylift.local.embedded import ACCOUNT, REGION, SERVE, EmbeddedAws, Running
from heavylift.local.interpreter import local_python
from heavylift.local.plugin.port import free_port

ROOT = Path(__file__).resolve().parent.parent
MODEL_SERVER = ("{python}", str(ROOT / "tests" / "local_model_server.py"), "{model_dir}", "{port}")
DEADLINE = 500.0
"""Seconds after which a stack that does not settle fails the test."""


@dataclass(frozen=True)
class Deployed:
    """What became of a stack: its status, its outputs, and its events from first to last."""

    status: str
    outputs: dict[str, str]
    events: list[dict[str, Any]]

    def reasons(self, logical_id: str) -> str:
        """Every reason that the events give for a resource."""
        rows = (event for event in self.events if event["LogicalResourceId"] == logical_id)
        return "; ".join(event.get("ResourceStatusReason", "") for event in rows)

    def statuses(self, logical_id: str) -> list[str]:
        """The resource's statuses, in order."""
        return [event["ResourceStatus"] for event in self.events if event["LogicalResourceId"] == logical_id]


@dataclass
class Embedded:
    """A running embedded AWS, with boto3's clients for it."""

    aws: EmbeddedAws
    running: Running
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """boto3's client of a service; it reads no setting of the user's and retries nothing."""
        if service not in self._clients:
            import boto3
            from botocore.config import Config

            self._clients[service] = boto3.client(
                service,
                region_name=REGION,
                endpoint_url=self.running.url,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"total_max_attempts": 1}, proxies={}, read_timeout=100, max_pool_connections=64),
            )
        return self._clients[service]

    def close(self) -> None:
        """Close the clients' connections."""
        for client in self._clients.values():
            client.close()

    def deploy(self, stack: str, template: dict[str, Any], assembly: Path | None = None) -> Deployed:
        """Create or update the stack and wait; the files of `assembly`/<stack>.assets.json are published first."""
        if assembly is not None:
            self._publish(assembly / f"{stack}.assets.json")
        cloudformation = self.client("cloudformation")
        exists = self._status(stack) not in (None, "DELETE_COMPLETE")
        parameters = []
        if "BootstrapVersion" in template.get("Parameters", {}):
            name = "/cdk-bootstrap/hnb659fds/version"
            self.client("ssm").put_parameter(Name=name, Value="31", Type="String", Overwrite=True)
            parameters.append({"ParameterKey": "BootstrapVersion", "ParameterValue": name})
        change_set = {"StackName": stack, "ChangeSetName": f"change-{time.time_ns()}"}
        before = len(self._events(stack)) if exists else 0
        cloudformation.create_change_set(
            **change_set,
            ChangeSetType="UPDATE" if exists else "CREATE",
            TemplateBody=json.dumps(template),
            Parameters=parameters,
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        )
        described = self._poll(
            lambda: cloudformation.describe_change_set(**change_set),
            lambda reply: reply["Status"] in ("CREATE_COMPLETE", "FAILED"),
        )
        assert described["Status"] == "CREATE_COMPLETE", described.get("StatusReason")
        cloudformation.execute_change_set(**change_set)
        return self._settled(stack, before)

    def destroy(self, stack: str) -> Deployed:
        """Delete the stack and wait."""
        before = len(self._events(stack))
        stack_id = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]["StackId"]
        self.client("cloudformation").delete_stack(StackName=stack)
        return self._settled(stack_id, before)

    def _publish(self, manifest: Path) -> None:
        """Put every file asset of a stack where its template looks for it."""
        s3 = self.client("s3")
        text = manifest.read_text().replace("${AWS::AccountId}", ACCOUNT).replace("${AWS::Region}", REGION)
        for asset in json.loads(text)["files"].values():
            source = manifest.parent / asset["source"]["path"]
            data = zipped(source) if asset["source"]["packaging"] == "zip" else source.read_bytes()
            for destination in asset["destinations"].values():
                s3.create_bucket(Bucket=destination["bucketName"])
                s3.put_object(Bucket=destination["bucketName"], Key=destination["objectKey"], Body=data)

    def _settled(self, stack: str, before: int) -> Deployed:
        found = self._poll(
            lambda: self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0],
            lambda reply: not reply["StackStatus"].endswith("IN_PROGRESS"),
        )
        outputs = {row["OutputKey"]: row["OutputValue"] for row in found.get("Outputs", [])}
        return Deployed(found["StackStatus"], outputs, self._events(found["StackId"])[before:])

    def _status(self, stack: str) -> str | None:
        from botocore.exceptions import ClientError

        try:
            status = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
        except ClientError:
            return None
        return str(status)

    def _events(self, stack: str) -> list[dict[str, Any]]:
        pages = self.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=stack)
        return [event for page in pages for event in page["StackEvents"]][::-1]

    def _poll(self, ask: Any, done: Any) -> Any:
        deadline = time.monotonic() + DEADLINE
        while not done(reply := ask()):
            assert time.monotonic() < deadline, reply
            time.sleep(0.05)
        return reply


def zipped(folder: Path) -> bytes:
    """A zip of the folder's files, as the CDK CLI makes one of an asset."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return data.getvalue()


def new_embedded(home: Path) -> EmbeddedAws:
    """An embedded AWS of the test's own; MiniStack's interpreter is the checkout's, made on the first use."""
    return EmbeddedAws(home, local_python(ROOT / ".heavylift" / "local"))


@contextmanager
def start_embedded(home: Path, command: tuple[str, ...] = SERVE) -> Iterator[Embedded]:
    """A running embedded AWS on a free port, ended at the end; `command` starts its endpoints."""
    aws = new_embedded(home)
    embedded = Embedded(aws, aws.start(Path(sys.executable), ROOT / "runtime", free_port(), command))
    try:
        yield embedded
    finally:
        embedded.close()
        aws.stop()


@pytest.fixture(scope="session")
def embedded_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """One embedded AWS for all tests; its endpoints run our runtime."""
    with start_embedded(tmp_path_factory.mktemp("embedded-aws")) as embedded:
        yield embedded


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """One embedded AWS for all tests; its endpoints run tests/local_model_server.py."""
    with start_embedded(tmp_path_factory.mktemp("local-aws"), MODEL_SERVER) as embedded:
        yield embedded
