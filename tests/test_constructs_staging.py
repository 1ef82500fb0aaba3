"""Staging: the template of the job, and the function that starts it and answers for it."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from cfnlint.api import lint_file
from moto import mock_aws

from heavylift.errors import InputError
from tests.cdk import FLAGS, ROOT, App, Stack, Synthesized
from tests.test_stacks_checks import add_nag

DIGEST, REVISION, BUCKET = "d1" * 32, "0a" * 20, "weights-bucket"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hub-AbCdEf"
BUILD = "arn:aws:codebuild:eu-west-1:123456789012:build/staging:1234"
WANTED = {"Id": "google/flan-t5-xxl", "Revision": REVISION, "Digest": DIGEST}


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_logs as logs
    from aws_cdk import aws_secretsmanager as secretsmanager

    from heavylift_cdk import Staged, Staging, Weights

    folder = tmp_path_factory.mktemp("assembly")
    app = App(outdir=str(folder), context=FLAGS)
    add_nag(app)
    stack = Stack(app, "staging")
    weights = Weights(stack, "Weights", key=kms.Key(stack, "Key", enable_key_rotation=True))
    token = secretsmanager.Secret.from_secret_complete_arn(stack, "Token", SECRET)
    staging = Staging(stack, "Staging", weights=weights, log_group=logs.LogGroup(stack, "Log"), token=token)
    Staged(stack, "Flan", staging=staging, model="google/flan-t5-xxl", revision=REVISION, digest=DIGEST)
    with pytest.raises(InputError, match=r"'revision' must be 40 hexadecimal digits.*got 'main'"):
        Staged(stack, "Moving", staging=staging, model="google/flan-t5-xxl", revision="main", digest=DIGEST)
    stack.node.try_remove_child("Moving")
    app.synth()
    return Synthesized(folder)


def test_nag_and_lint_find_nothing(synthesized: Synthesized) -> None:
    reports = json.loads((synthesized.folder / "validation-report.json").read_text())["pluginReports"]
    found = lint_file(synthesized.folder / "staging.template.json")

    assert {report["pluginName"]: report["violations"] for report in reports}["AwsSolutions"] == []
    assert [str(match) for match in found if match.rule.id != "W3005"] == []


def test_the_token_is_a_secret_and_never_text(synthesized: Synthesized) -> None:
    project = synthesized.only("staging", "AWS::CodeBuild::Project")

    (token,) = [each for each in project["Environment"]["EnvironmentVariables"] if each["Name"] == "HF_TOKEN"]
    assert token == {"Name": "HF_TOKEN", "Type": "SECRETS_MANAGER", "Value": SECRET}
    assert "heavylift.weights.stage" in project["Source"]["BuildSpec"]
    assert "boto3==" in project["Source"]["BuildSpec"]


def test_it_runs_again_when_its_inputs_change_and_only_then(synthesized: Synthesized) -> None:
    staged = synthesized.only("staging", "Custom::HeavyliftStaged")

    assert {key: staged[key] for key in WANTED} == WANTED
    assert set(staged) == {"ServiceToken", "ServiceTimeout", *WANTED}, "the code is not among them"


def test_the_job_may_write_weights_and_nothing_else(synthesized: Synthesized) -> None:
    template = synthesized.template("staging")
    (policy,) = [
        each["Properties"]["PolicyDocument"]["Statement"]
        for id, each in template.find_resources("AWS::IAM::Policy").items()
        if "Rights" in id
    ]

    put = [each for each in policy if "s3:PutObject" in each["Action"]]
    assert [each["Resource"]["Fn::Join"][1][-1] for each in put] == ["/weights/*"]


@pytest.fixture(scope="module")
def lambda_() -> ModuleType:
    file = ROOT / "constructs/heavylift_cdk/lambdas/staging/index.py"
    spec = importlib.util.spec_from_file_location("staging_index", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("PROJECT", "staging")
    monkeypatch.setenv("BUCKET", BUCKET)
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client
        client.close()


@pytest.fixture
def cloudformation() -> Iterator[SimpleNamespace]:
    """A server that keeps what is put to it."""
    replies: list[dict[str, Any]] = []

    class Keeper(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            replies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Keeper) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}/put", replies=replies)
        server.shutdown()
        thread.join()


def request(url: str, kind: str = "Create") -> dict[str, Any]:
    return {
        "RequestType": kind, "ResponseURL": url, "StackId": "stack", "RequestId": "request-1",
        "LogicalResourceId": "Staged", "ResourceProperties": dict(WANTED),
    }  # fmt: skip


def finished(status: str) -> dict[str, Any]:
    detail = {"build-id": BUILD, "build-status": status, "additional-information": {"logs": {"deep-link": "the log"}}}
    return {"source": "aws.codebuild", "detail": detail}


def begun(lambda_: ModuleType, s3: Any, url: str) -> None:
    """Start a build for a request."""
    codebuild = boto3.client("codebuild")
    with Stubber(codebuild) as stub:
        variables = {"MODEL_ID": WANTED["Id"], "REVISION": REVISION, "DIGEST": DIGEST}
        stub.add_response(
            "start_build",
            {"build": {"id": "staging:1234", "arn": BUILD}},
            {
                "projectName": "staging",
                "idempotencyToken": "request-1",
                "environmentVariablesOverride": [{"name": name, "value": value} for name, value in variables.items()],
            },
        )
        assert lambda_.began(request(url), s3, codebuild) is None
        stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("status", "manifest", "answered"),
    [
        ("SUCCEEDED", True, "SUCCESS"),
        ("SUCCEEDED", False, "FAILED"),
        ("FAILED", False, "FAILED"),
        ("TIMED_OUT", True, "FAILED"),
    ],
)
def test_cloudformation_hears_of_a_build_when_it_ends(
    lambda_: ModuleType, s3: Any, cloudformation: SimpleNamespace, status: str, manifest: bool, answered: str
) -> None:
    begun(lambda_, s3, cloudformation.url)
    assert cloudformation.replies == []
    if manifest:
        s3.put_object(Bucket=BUCKET, Key=f"weights/{DIGEST}/manifest.json", Body=b"{}")

    lambda_.handler(finished(status), None)

    (reply,) = cloudformation.replies
    assert (reply["Status"], reply["PhysicalResourceId"]) == (answered, DIGEST)
    assert answered == "SUCCESS" or f"google/flan-t5-xxl at {REVISION} is {status}: see the log" in reply["Reason"]
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="staging/")
    lambda_.handler(finished(status), None)  # a second event, or somebody's own build
    assert len(cloudformation.replies) == 1


@pytest.mark.parametrize("kind", ["Create", "Delete"])
def test_what_is_there_is_not_staged_again_and_a_stack_that_goes_waits_for_nothing(
    lambda_: ModuleType, s3: Any, cloudformation: SimpleNamespace, kind: str
) -> None:
    if kind == "Create":
        s3.put_object(Bucket=BUCKET, Key=f"weights/{DIGEST}/manifest.json", Body=b"{}")

    lambda_.handler(request(cloudformation.url, kind), None)

    assert [reply["Status"] for reply in cloudformation.replies] == ["SUCCESS"]


def test_a_job_that_cannot_be_started_fails_its_resource_at_once(
    lambda_: ModuleType, s3: Any, cloudformation: SimpleNamespace
) -> None:
    lambda_.handler(request(cloudformation.url), None)  # moto has no such project

    (reply,) = cloudformation.replies
    assert reply["Status"] == "FAILED"
    assert "cannot start the staging job" in reply["Reason"]


def test_the_job_copies_what_the_lock_says_and_nothing_else(tiny_t5: Path, s3: Any) -> None:
    from heavylift.plan.digest import digest
    from heavylift.weights.inspect import hashed
    from heavylift.weights.stage import main, stage
    from heavylift.weights.store import Folder
    from tests.test_weights_hub import COMMIT, ID, HubServer

    files = {path.name: path.read_bytes() for path in tiny_t5.iterdir()}
    server, patch = HubServer(files), pytest.MonkeyPatch()
    patch.setenv("HF_ENDPOINT", server.address)
    patch.setenv("HF_TOKEN", "secret")
    try:
        store = Folder(tiny_t5)
        expected = digest(hashed(store, store.files()))
        with pytest.raises(InputError, match=f"has the digest {expected}, and the lock says {DIGEST}"):
            stage(ID, COMMIT, DIGEST, BUCKET, s3)
        assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)

        asked = ["--id", ID, "--revision", COMMIT, "--digest", expected, "--bucket", BUCKET]
        assert main(asked) == 0
        sent = server.sent
        assert main(asked) == 0
    finally:
        patch.undo()
        server.close()

    keys = {row["Key"] for row in s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
    assert f"weights/{expected}/manifest.json" in keys
    assert f"weights/{expected}/model.safetensors" in keys
    assert server.sent == sent, "complete: nothing was read again"
    assert ("storage", "Bearer secret") not in server.tokens
