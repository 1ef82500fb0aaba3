"""Secrets and multi-model endpoints in the embedded AWS, served by our own runtime."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest
from botocore.exceptions import ClientError

from heavylift.benchmark.client import SageMakerClient
from heavylift.local.environment import aws_variables
from tests.embedded import Deployed, Embedded
from tests.local_stack import stack

pytestmark = pytest.mark.slow

BUCKET = "models-of-the-user"
SHOWS = """
import os

def handle(inputs):
    if inputs.is_empty():
        return None
    return {"who": WHO, "token": os.environ.get("HF_TOKEN"), "at": os.environ.get("HF_TOKEN_SECRET_ARN")}
"""


def put(aws: Embedded, key: str, body: bytes) -> None:
    aws.client("s3").create_bucket(Bucket=BUCKET)
    aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)


def script(who: str) -> bytes:
    return SHOWS.replace("WHO", repr(who)).encode()


def archive(**files: bytes) -> bytes:
    """A .tar.gz; `__` in a name is its dot."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as packed:
        for name, content in files.items():
            row = tarfile.TarInfo(name.replace("__", "."))
            row.size = len(content)
            packed.addfile(row, io.BytesIO(content))
    return data.getvalue()


def many(endpoint: str, prefix: str, environment: dict[str, str]) -> dict[str, Any]:
    template = stack(endpoint, environment)
    model = template["Resources"]["Model"]["Properties"]["PrimaryContainer"]
    model |= {"Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/{prefix}"}
    return template


def ask(aws: Embedded, endpoint: str, **options: str) -> dict[str, Any]:
    runtime = aws.client("sagemaker-runtime")
    reply = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=b"{}", **options)
    answer: dict[str, Any] = json.load(reply["Body"])
    return answer


def complete(made: Deployed) -> None:
    assert made.status.endswith("_COMPLETE"), made.events
    assert "ROLLBACK" not in made.status, made.events


def test_a_secret_is_in_the_containers_process_and_nowhere_else(embedded_aws: Embedded) -> None:
    secrets = embedded_aws.client("secretsmanager")
    arn = secrets.create_secret(Name="hub", SecretString="hf_abc")["ARN"]
    put(embedded_aws, "config/secret/serving.properties", b"engine=Python\n")
    put(embedded_aws, "config/secret/model.py", script("one"))
    data = f"s3://{BUCKET}/config/secret/"

    complete(embedded_aws.deploy("secret", stack("secret", {"HF_TOKEN_SECRET_ARN": arn}, data=data)))

    assert ask(embedded_aws, "secret") == {"who": "one", "token": "hf_abc", "at": arn}
    sagemaker = embedded_aws.client("sagemaker")
    described = [sagemaker.describe_model(ModelName=each["ModelName"]) for each in sagemaker.list_models()["Models"]]
    assert "hf_abc" not in json.dumps(described, default=str)

    gone = "arn:aws:secretsmanager:us-east-1:000000000000:secret:gone-AbCdEf"
    failed = embedded_aws.deploy("secret", stack("secret", {"HF_TOKEN_SECRET_ARN": gone}, data=data))

    assert failed.status == "UPDATE_ROLLBACK_COMPLETE", failed.events
    assert f"the secret {gone} cannot be read" in failed.reasons("Endpoint")
    assert ask(embedded_aws, "secret")["token"] == "hf_abc"
    embedded_aws.destroy("secret")


def test_a_multi_model_endpoint_loads_each_archive_when_it_is_asked_for(
    embedded_aws: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = b"engine=Python\n"
    put(embedded_aws, "many/a.tar.gz", archive(serving__properties=properties, model__py=script("a")))
    put(embedded_aws, "many/b.tar.gz", archive(model__py=script("b")))  # the endpoint's options are its own
    put(embedded_aws, "many/broken.tar.gz", b"no archive")
    put(embedded_aws, "many/faulty.tar.gz", archive(serving__properties=b"engine=nope\n"))
    complete(embedded_aws.deploy("many", many("many", "many/", {"OPTION_ENGINE": "Python"})))

    assert ask(embedded_aws, "many", TargetModel="a.tar.gz")["who"] == "a"
    assert ask(embedded_aws, "many", TargetModel="b.tar.gz")["who"] == "b"
    for name, value in aws_variables(embedded_aws.running.port).items():
        monkeypatch.setenv(name, value)
    measured = SageMakerClient("many", concurrency=1, model="b.tar.gz").invoke(b"{}")
    assert json.loads(measured)["who"] == "b", "as the gate asks it"
    assert ask(embedded_aws, "many", TargetModel="a.tar.gz")["who"] == "a"
    for target, sentence in (
        ("gone.tar.gz", "Failed to download model data"),
        ("broken.tar.gz", "Failed to extract model data archive"),
        ("faulty.tar.gz", r"Received error \(400\) from the container.*nope"),
    ):
        with pytest.raises(ClientError, match=sentence):
            ask(embedded_aws, "many", TargetModel=target)
    with pytest.raises(ClientError, match="a multi-model endpoint needs TargetModel"):
        ask(embedded_aws, "many")
    embedded_aws.destroy("many")


def test_an_archive_that_leads_out_of_its_folder_is_refused(embedded_aws: Embedded) -> None:
    put(embedded_aws, "evil/evil.tar.gz", archive(**{"../evil": b"x"}))
    complete(embedded_aws.deploy("evil", many("evil", "evil/", {})))

    with pytest.raises(ClientError, match="Failed to extract model data archive"):
        ask(embedded_aws, "evil", TargetModel="evil.tar.gz")
    embedded_aws.destroy("evil")


def test_one_model_takes_no_target_and_a_prefix_is_not_data_of_one(local_aws: Embedded) -> None:
    complete(local_aws.deploy("single", stack("single", {})))
    wrong = many("wrong", "models", {})

    with pytest.raises(ClientError, match="the endpoint serves one model: leave out TargetModel"):
        ask(local_aws, "single", TargetModel="a.tar.gz")
    failed = local_aws.deploy("wrong", wrong)

    assert failed.status == "ROLLBACK_COMPLETE"
    assert "that of a MultiModel container is s3://bucket/prefix/" in failed.reasons("Model")
    local_aws.destroy("single")
    local_aws.destroy("wrong")
