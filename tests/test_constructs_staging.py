"""Staging: the template of the job, and the job itself. The function that waits for it: test_jobs.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from heavylift.errors import InputError
from tests.cdk import FLAGS, App, Stack, Synthesized
from tests.judges import add_nag, lint, nag

DIGEST, REVISION, BUCKET = "d1" * 32, "0a" * 20, "weights-bucket"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hub-AbCdEf"
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
    assert nag(synthesized) == []
    assert lint(synthesized, "staging") == []


def test_the_token_is_a_secret_and_never_text(synthesized: Synthesized) -> None:
    project = synthesized.only("staging", "AWS::CodeBuild::Project")

    (token,) = [each for each in project["Environment"]["EnvironmentVariables"] if each["Name"] == "HF_TOKEN"]
    assert token == {"Name": "HF_TOKEN", "Type": "SECRETS_MANAGER", "Value": SECRET}
    assert "heavylift.weights.stage" in project["Source"]["BuildSpec"]
    assert "boto3==" in project["Source"]["BuildSpec"]


def test_it_runs_again_when_its_inputs_change_and_only_then(synthesized: Synthesized) -> None:
    staged = synthesized.only("staging", "Custom::HeavyliftStaged")

    assert {key: staged[key] for key in WANTED} == WANTED
    assert set(staged) == {"ServiceToken", "ServiceTimeout", "Told", *WANTED}, "the code is not among them"


def test_the_job_may_write_weights_and_nothing_else(synthesized: Synthesized) -> None:
    template = synthesized.template("staging")
    (policy,) = [
        each["Properties"]["PolicyDocument"]["Statement"]
        for id, each in template.find_resources("AWS::IAM::Policy").items()
        if "Rights" in id
    ]

    put = [each for each in policy if "s3:PutObject" in each["Action"]]
    assert [each["Resource"]["Fn::Join"][1][-1] for each in put] == ["/weights/*"]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client
        client.close()


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
