"""SageMaker's own clients, unmodified, on an endpoint of the embedded AWS that runs the whole server with tiny-t5.

boto3 invokes and reads response streams, whose parts are cut within lines and characters; the SageMaker SDK's
predictors (v2) and Endpoint (v3) run in environments of their own, as they pin much of what we do otherwise.
"""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.embedded import Embedded
from tests.local_stack import stack

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
SDK = "sagemaker==2.257.7"
CORE = "sagemaker-core==2.27.0"
"""What `sagemaker` 3.27.0 asks endpoints with; the rest of it trains, builds and keeps lineage."""
ENDPOINT = "clients"
ASKED, ANSWER = "write in words: 298", "two hundred and ninety-eight"
DETAILED = {"inputs": ASKED, "parameters": {"max_new_tokens": 40, "details": True}}


@pytest.fixture(scope="module")
def endpoint(embedded_aws: Embedded, tiny_t5: Path) -> Iterator[Embedded]:
    s3 = embedded_aws.client("s3")
    s3.create_bucket(Bucket=ENDPOINT)
    for file in tiny_t5.iterdir():
        s3.put_object(Bucket=ENDPOINT, Key=f"model/{file.name}", Body=file.read_bytes())
    s3.put_object(Bucket=ENDPOINT, Key="model/serving.properties", Body=b"engine=native\noption.dtype=fp32\n")
    deployed = embedded_aws.deploy(ENDPOINT, stack(ENDPOINT, {}, data=f"s3://{ENDPOINT}/model/"))
    assert deployed.status == "CREATE_COMPLETE", deployed.reasons("Endpoint")
    yield embedded_aws
    embedded_aws.destroy(ENDPOINT)


def invoke(aws: Embedded, **body: Any) -> Any:
    reply = aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=ENDPOINT, ContentType="application/json", Body=json.dumps(body)
    )
    return json.load(reply["Body"])


def parts(aws: Embedded, **body: Any) -> list[bytes]:
    reply = aws.client("sagemaker-runtime").invoke_endpoint_with_response_stream(
        EndpointName=ENDPOINT, ContentType="application/json", Body=json.dumps({**body, "stream": True})
    )
    with closing(reply["Body"]) as events:
        return [event["PayloadPart"]["Bytes"] for event in events]


def is_text(part: bytes) -> bool:
    try:
        part.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_boto3_invokes(endpoint: Embedded) -> None:
    assert invoke(endpoint, inputs=[ASKED, ASKED])["outputs"] == [ANSWER, ANSWER]


def test_boto3_reads_lines_that_are_cut_anywhere(endpoint: Embedded) -> None:
    found = parts(endpoint, **DETAILED)

    events = [json.loads(line) for line in b"".join(found).splitlines()]

    assert not all(part.endswith(b"\n") for part in found)
    assert "".join(event["token"]["text"] for event in events) == ANSWER
    assert events[-1]["generated_text"] == ANSWER
    assert events[-1]["details"]["generated_tokens"] == len(events)


def test_boto3_reads_characters_that_are_cut_within(endpoint: Embedded) -> None:
    asked = "write in words: 298, schön 🙂"
    found = parts(endpoint, inputs=asked, parameters={"return_full_text": True, "max_new_tokens": 3})

    decoder = codecs.getincrementaldecoder("utf-8")()
    text = "".join(decoder.decode(part) for part in found)

    assert not all(is_text(part) for part in found)
    assert json.loads(text.splitlines()[-1])["generated_text"].startswith(asked)


def test_boto3_reads_openais_events(endpoint: Embedded) -> None:
    found = parts(endpoint, messages=[{"role": "user", "content": ASKED}], temperature=0)

    *events, done = [line.removeprefix("data: ") for line in b"".join(found).decode().splitlines() if line]

    texts = [json.loads(event)["choices"][0]["delta"].get("content", "") for event in events]
    assert done == "[DONE]" and "".join(texts) == ANSWER


@pytest.mark.parametrize("streamed", [False, True])
def test_a_refusal_reaches_boto3_with_our_status_and_sentence(endpoint: Embedded, streamed: bool) -> None:
    with pytest.raises(ClientError) as caught:
        (parts if streamed else invoke)(endpoint, inputs=ASKED, parameters={"max_new_tokens": 0})

    response: Any = caught.value.response
    assert response["Error"]["Code"] == "ModelError" and response["OriginalStatusCode"] == 400
    assert "'max_new_tokens' must be a whole number from 1 to" in json.loads(response["OriginalMessage"])["error"]


def test_a_chat_template_comes_with_weights_in_s3(endpoint: Embedded) -> None:
    s3, name = endpoint.client("s3"), "chats"
    s3.create_bucket(Bucket=name)
    for row in s3.list_objects_v2(Bucket=ENDPOINT, Prefix="model/")["Contents"]:
        file = row["Key"].removeprefix("model/")
        content = s3.get_object(Bucket=ENDPOINT, Key=row["Key"])["Body"].read()
        if file == "tokenizer_config.json":
            template = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
            content = json.dumps({**json.loads(content), "chat_template": template}).encode()
        place = "config" if file == "serving.properties" else "weights"
        s3.put_object(Bucket=name, Key=f"{place}/{file}", Body=content)
    weights = {"OPTION_MODEL_ID": f"s3://{name}/weights/"}
    deployed = endpoint.deploy(name, stack(name, weights, data=f"s3://{name}/config/"))
    assert deployed.status == "CREATE_COMPLETE", deployed.reasons("Endpoint")

    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": ASKED}]
    reply = endpoint.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=name,
        ContentType="application/json",
        Body=json.dumps({"messages": messages, "temperature": 0}),
    )
    endpoint.destroy(name)

    assert json.load(reply["Body"])["choices"][0]["message"]["content"] == ANSWER


def interpreter(requirement: str) -> Path:
    """The interpreter of an environment with an SDK, made on the first use: some two minutes, 600 MB."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "heavylift" / requirement.replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / "installed").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", requirement], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"pip could not install {requirement} into an environment of its own: {done.stderr[-300:]}")
        (folder / "installed").touch()
    return python


def said_by(python: Path, program: str, url: str, *arguments: str) -> dict[str, Any]:
    """What a program printed last."""
    environ = {"PATH": os.defpath, "HOME": str(python.parent), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        [python, ROOT / "tests" / program, *arguments],
        capture_output=True, text=True, env=environ | {"AWS_ENDPOINT_URL": url}, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_sagemaker_sdks_predictors_predict_and_stream(endpoint: Embedded) -> None:
    url = endpoint.running.url

    said = said_by(interpreter(SDK), "sagemaker_predictor.py", url, url, ENDPOINT, ASKED)

    assert said["one"]["outputs"] == [ANSWER] == said["hugging face"]["outputs"]
    assert said["many"]["outputs"] == [ANSWER, ANSWER]
    assert said["stream"][-1]["generated_text"] == ANSWER


def test_version_3_of_the_sagemaker_sdk_invokes_and_streams(endpoint: Embedded) -> None:
    said = said_by(interpreter(CORE), "sagemaker_endpoint.py", endpoint.running.url, ENDPOINT, ASKED)

    assert said["status"] == "InService"
    assert said["one"]["outputs"] == [ANSWER]
    assert said["stream"][-1]["generated_text"] == ANSWER
