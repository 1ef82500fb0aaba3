"""AdditionalModelDataSources through the embedded AWS: each channel's prefix is a folder of its name beside the model.

SageMaker puts it into /opt/ml/additional-model-data-sources/<ChannelName>. CloudFormation's Model has no such property,
so that a template cannot ask for it, and a Model made by the API can.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import aws_sagemaker
from botocore.exceptions import ClientError

from tests.embedded import Embedded
from tests.local_stack import ROLE, stack
from tests.served import eventually

pytestmark = pytest.mark.slow

BUCKET = "channels-of-the-user"
CHANNELS = "/opt/ml/additional-model-data-sources"
READS = """
import json
from pathlib import Path

def handle(inputs):
    if inputs.is_empty():
        return None
    draft = Path(inputs.get_property("speculative_draft_model"))
    return {"draft": json.loads((draft / "config.json").read_text()), "files": sorted(
        str(path.relative_to(draft.parent)) for path in draft.parent.rglob("*") if path.is_file()
    )}
"""
SCRIPT = {
    "script/serving.properties": f"engine=Python\noption.speculative_draft_model={CHANNELS}/draft\n",
    "script/model.py": READS,
    "draft/config.json": '{"layers": 1}',
    "adapters/poet/adapter_config.json": "{}",
}


def upload(aws: Embedded, files: dict[str, bytes]) -> None:
    aws.client("s3").create_bucket(Bucket=BUCKET)
    for key, body in files.items():
        aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)


def prefix(key: str) -> dict[str, str]:
    return {"S3Uri": f"s3://{BUCKET}/{key}/", "S3DataType": "S3Prefix", "CompressionType": "None"}


def create_model(aws: Embedded, name: str, data: str, **channels: str) -> None:
    aws.client("sagemaker").create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/m:1",
            "ModelDataSource": {"S3DataSource": prefix(data)},
            "AdditionalModelDataSources": [
                {"ChannelName": channel, "S3DataSource": prefix(key)} for channel, key in channels.items()
            ],
        },
    )


@contextmanager
def endpoint(aws: Embedded, name: str) -> Iterator[dict[str, Any]]:
    """The endpoint of the Model of that name, as it is described once it has settled."""
    sagemaker = aws.client("sagemaker")
    variant = {"VariantName": "all", "ModelName": name, "InstanceType": "ml.c6i.xlarge", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def settled() -> dict[str, Any]:
        found: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=name)
        return {} if found["EndpointStatus"] == "Creating" else found

    yield eventually(settled)
    sagemaker.delete_endpoint(EndpointName=name)


def ask(aws: Embedded, name: str, body: object) -> Any:
    runtime = aws.client("sagemaker-runtime")
    reply = runtime.invoke_endpoint(EndpointName=name, ContentType="application/json", Body=json.dumps(body))
    return json.load(reply["Body"])


def test_a_users_script_reads_the_channels_where_sagemaker_puts_them(embedded_aws: Embedded) -> None:
    upload(embedded_aws, {key: text.encode() for key, text in SCRIPT.items()})
    create_model(embedded_aws, "channels", "script", draft="draft", adapters="adapters")

    with endpoint(embedded_aws, "channels") as described:
        assert described["EndpointStatus"] == "InService", described
        answer = ask(embedded_aws, "channels", {})

    assert answer == {
        "draft": {"layers": 1},
        "files": ["adapters/poet/adapter_config.json", "draft/config.json"],
    }


def test_the_native_engine_loads_weights_from_a_channel(embedded_aws: Embedded, tiny_t5: Path) -> None:
    files = {f"weights/{path.name}": path.read_bytes() for path in tiny_t5.iterdir() if path.is_file()}
    options = f"engine=native\noption.dtype=fp32\noption.model_id={CHANNELS}/t5\n"
    upload(embedded_aws, files | {"options/serving.properties": options.encode()})
    create_model(embedded_aws, "weights", "options", t5="weights")

    with endpoint(embedded_aws, "weights") as described:
        assert described["EndpointStatus"] == "InService", described
        answer = ask(embedded_aws, "weights", {"inputs": "write in words: 298"})

    assert answer["outputs"] == ["two hundred and ninety-eight"]


def test_a_channel_without_objects_fails_the_endpoint_with_a_sentence(local_aws: Embedded) -> None:
    upload(local_aws, {"a/serving.properties": b"engine=native"})
    create_model(local_aws, "hollow", "a", nothing="nowhere")

    with endpoint(local_aws, "hollow") as described:
        assert described["EndpointStatus"] == "Failed"
        assert described["FailureReason"] == f"no object under 's3://{BUCKET}/nowhere/'"


@pytest.mark.parametrize("channels", [{"..": "a"}, {".": "a"}, {"a/b": "a"}, {f"c{each}": "a" for each in range(6)}])
def test_a_channel_leads_nowhere_else_and_there_are_five(local_aws: Embedded, channels: dict[str, str]) -> None:
    with pytest.raises(ClientError, match=r"AdditionalModelDataSources|a folder of its own"):
        create_model(local_aws, "wrong", "a", **channels)


def test_a_template_cannot_ask_for_a_channel(local_aws: Embedded) -> None:
    template = stack("templated", {})
    container = template["Resources"]["Model"]["Properties"]["PrimaryContainer"]
    container["AdditionalModelDataSources"] = [{"ChannelName": "a", "S3DataSource": prefix("a")}]

    failed = local_aws.deploy("templated", template)

    assert not hasattr(aws_sagemaker.CfnModel.ContainerDefinitionProperty, "additional_model_data_sources")
    assert failed.status == "ROLLBACK_COMPLETE"
    assert "CloudFormation's AWS::SageMaker::Model has no AdditionalModelDataSources" in failed.reasons("Model")
