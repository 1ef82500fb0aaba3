"""A run longer than one Lambda, in the embedded AWS: the deployed function calls itself, and answers once."""

from __future__ import annotations

import json
import time

import pytest

from heavylift.benchmark.samples import Recording
from tests.benchmark_documents import benchmark_document
from tests.checkout import Checkout
from tests.fake_endpoint import Reply, fake_endpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SHORT_SECONDS = 96  # of which 90 are kept for the last reply and the report: a leg has six


def test_the_deployed_function_goes_on_where_its_time_ends(checkout: Checkout) -> None:
    checkout.light()
    client = checkout.client
    up = checkout.run("up", "models/tiny-t5.yaml", "--local", "--port", str(checkout.port))
    assert up.returncode == 0, up.stdout + up.stderr
    stack = client("cloudformation").describe_stacks(StackName="heavylift-tiny-t5")["Stacks"][0]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    functions = client("lambda").list_functions()["Functions"]
    (gate,) = [each for each in functions if each["Handler"] == "heavylift.benchmark.handler.handler"]
    client("lambda").update_function_configuration(FunctionName=gate["FunctionName"], Timeout=SHORT_SECONDS)
    benchmark = benchmark_document(requests=100_000, warmup_requests=1, max_seconds=30, slo=[], on_fail="warn")

    with fake_endpoint(lambda number, body: Reply(200)) as cloudformation:
        event = {
            "RequestType": "Create",
            "RequestId": "long",
            "ResponseURL": f"{cloudformation.url}/answer",
            "StackId": stack["StackId"],
            "LogicalResourceId": "Gate",
            "ResourceProperties": {
                "EndpointName": outputs["EndpointName"],
                "EndpointConfigName": outputs["EndpointConfigName"],
                "GateDigest": "0" * 64,
                "Benchmark": json.dumps(benchmark),
            },
        }
        payload = json.dumps(event).encode()
        client("lambda").invoke(FunctionName=gate["FunctionName"], InvocationType="Event", Payload=payload)
        deadline = time.monotonic() + 150
        while not cloudformation.heard:
            assert time.monotonic() < deadline, "nobody answered"
            time.sleep(0.2)
        answer = json.loads(cloudformation.heard[0][3])

    assert answer["Status"] == "SUCCESS", answer
    bucket, key = answer["Data"]["ReportUri"].removeprefix("s3://").split("/", 1)
    s3 = client("s3")
    report = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    folder = key.removesuffix("report.json")
    legs = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix=f"{folder}legs/")["Contents"]]
    whole = Recording.decode(s3.get_object(Bucket=bucket, Key=f"{folder}samples.jsonl.gz")["Body"].read())
    parts = [Recording.decode(s3.get_object(Bucket=bucket, Key=leg)["Body"].read()) for leg in sorted(legs)]
    assert len(legs) >= 1
    assert report["requests"]["warmup"] == len(legs) + 1, "each leg warms up"
    assert len(whole.measured) > sum(len(part.measured) for part in parts) > 0
    assert whole.samples[0].end_s == parts[0].samples[0].end_s
