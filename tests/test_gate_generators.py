"""A load by several generators: the synthesized state machine, run by the embedded AWS's Step Functions, over the
gate's own function."""

from __future__ import annotations

import io
import itertools
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from heavylift.benchmark.samples import Recording
from tests.benchmark_documents import benchmark_document
from tests.cdk import ROOT, plan, resolve, synthesize
from tests.embedded import Embedded
from tests.fake_endpoint import FakeEndpoint, Reply, fake_endpoint
from tests.local_stack import ROLE

pytestmark = pytest.mark.slow
LOAD = {"mode": "open", "arrivals": "poisson", "rate": 9.0, "generators": 3}
REQUESTS = itertools.count()


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The state machine of a plan, with the name FUNCTION where the function's ARN goes."""
    benchmark = plan().benchmark
    assert benchmark is not None
    made = synthesize(tmp_path_factory.mktemp("machine"), plan(name="many", benchmark=replace(benchmark, load=LOAD)))
    resources = made.json("heavylift-many")["Resources"]
    functions = [id for id, each in resources.items() if each["Type"] == "AWS::Lambda::Function" and "Gate" in id]
    machine = made.only("heavylift-many", "AWS::StepFunctions::StateMachine")
    return str(resolve(machine["DefinitionString"], {functions[0]: "FUNCTION"}))


@dataclass
class Account:
    """The gate's function, its state machine and an endpoint in the embedded AWS; a server for its answers."""

    aws: Embedded
    machine: str
    function: str
    stack: str
    cloudformation: FakeEndpoint

    def ask(self, **benchmark: Any) -> dict[str, Any]:
        """What CloudFormation is told of a request."""
        request = f"request-{next(REQUESTS)}"
        payload = json.dumps(self.event(request, **benchmark)).encode()
        self.aws.client("lambda").invoke(FunctionName=self.function, InvocationType="Event", Payload=payload)
        return self.answer(request)

    def event(self, request: str, EndpointName: str = "shared", **benchmark: Any) -> dict[str, Any]:
        asked = benchmark_document(load=LOAD, requests=30, warmup_requests=5, **{"slo": [], **benchmark})
        return {
            "RequestType": "Create",
            "RequestId": request,
            "ResponseURL": f"{self.cloudformation.url}/{request}?signature=secret",
            "StackId": self.stack,
            "LogicalResourceId": "Gate",
            "ResourceProperties": {
                "EndpointName": EndpointName,
                "EndpointConfigName": "shared",
                "GateDigest": "0" * 64,
                "StateMachineArn": self.machine,
                "Benchmark": json.dumps(asked),
            },
        }

    def answer(self, request: str) -> dict[str, Any]:
        told = self.until(lambda: [body for _, path, _, body in self.cloudformation.heard if f"/{request}?" in path])
        return dict(json.loads(told[0]))

    def execution(self) -> dict[str, Any]:
        """The newest one."""
        states = self.aws.client("stepfunctions")
        found = states.list_executions(stateMachineArn=self.machine)["executions"]
        newest = max(found, key=lambda each: each["startDate"])
        return dict(states.describe_execution(executionArn=newest["executionArn"]))

    def until(self, ask: Callable[[], Any], seconds: float = 120) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := ask()):
            assert time.monotonic() < deadline, self.cloudformation.heard
            time.sleep(0.1)
        return found

    def objects(self, uri: str) -> dict[str, bytes]:
        """Everything in a report's folder."""
        bucket, key = uri.removeprefix("s3://").split("/", 1)
        folder, s3 = key.removesuffix("report.json"), self.aws.client("s3")
        keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix=folder)["Contents"]]
        return {key.removeprefix(folder): s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


@pytest.fixture(scope="module")
def account(local_aws: Embedded, definition: str) -> Iterator[Account]:
    function = made_function(local_aws)
    machine = local_aws.client("stepfunctions").create_state_machine(
        name="many", definition=definition.replace("FUNCTION", function), roleArn=ROLE
    )["stateMachineArn"]
    template = json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}})
    stack = local_aws.client("cloudformation").create_stack(StackName="shared", TemplateBody=template)["StackId"]
    with fake_endpoint(lambda number, body: Reply(200)) as cloudformation:
        yield Account(local_aws, machine, function, stack, cloudformation)


@pytest.fixture
def endpoint(account: Account) -> Iterator[None]:
    sagemaker = account.aws.client("sagemaker")
    container = {"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/m:1", "Environment": {"MODEL_NAME": "m"}}
    variant = {"VariantName": "v", "ModelName": "shared", "InstanceType": "ml.c6i.xlarge", "InitialInstanceCount": 1}
    sagemaker.create_model(ModelName="shared", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    sagemaker.create_endpoint_config(EndpointConfigName="shared", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="shared", EndpointConfigName="shared")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="shared", WaiterConfig={"Delay": 1})
    yield
    sagemaker.delete_endpoint(EndpointName="shared")
    account.until(lambda: not sagemaker.list_endpoints(NameContains="shared")["Endpoints"])
    sagemaker.delete_endpoint_config(EndpointConfigName="shared")
    sagemaker.delete_model(ModelName="shared")


def made_function(aws: Embedded) -> str:
    """The gate's code, as its asset has it."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path in (ROOT / "heavylift" / "__init__.py", *(ROOT / "heavylift" / "benchmark").rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(ROOT))
    aws.client("s3").create_bucket(Bucket="shared-reports")
    made = aws.client("lambda").create_function(
        FunctionName="generator",
        Runtime="python3.14",
        Role=ROLE,
        Handler="heavylift.benchmark.handler.handler",
        Code={"ZipFile": data.getvalue()},
        Timeout=900,
        Environment={"Variables": {"REPORTS_BUCKET": "shared-reports"}},
    )
    return str(made["FunctionArn"])


@pytest.mark.usefixtures("endpoint")
def test_three_lambdas_make_one_load_and_a_fourth_answers_for_it(account: Account) -> None:
    errors = [{"metric": "error_rate", "max": 1.0}]  # the model of these tests answers in a form of its own
    answer = account.ask(slo=errors, max_lag_ms=60_000)

    assert (answer["Status"], answer["Data"]["Verdict"]) == ("SUCCESS", "PASS"), answer
    kept = account.objects(answer["Data"]["ReportUri"])
    report = json.loads(kept["report.json"])
    parts = [Recording.decode(kept[f"shards/{index:03}.jsonl.gz"]) for index in range(3)]
    assert report["requests"]["measured"] == 30
    assert report["requests"]["warmup"] + 30 + report["requests"]["drain"] == sum(len(each.samples) for each in parts)
    assert all(len(each.samples) > 20 for each in parts)
    assert report["generator"].startswith("3 parts: ")
    assert len({each.run.started_at for each in parts}) == 1, "all began at the same moment"
    account.until(lambda: account.execution()["status"] == "SUCCEEDED")
    assert "secret" not in json.dumps(account.execution(), default=str), "no signed URL in the machine's history"


def test_whatever_stops_a_generator_cloudformation_is_answered(account: Account) -> None:
    request = f"request-{next(REQUESTS)}"
    event = account.event(request, EndpointName="absent")
    key = f"reports/tiny-t5/.answers/{request}.request.json"
    account.aws.client("s3").put_object(Bucket="shared-reports", Key=key, Body=json.dumps(event).encode())
    share = {"request": key, "run": "r", "begin": time.time()}
    account.aws.client("stepfunctions").start_execution(
        stateMachineArn=account.machine, name=request, input=json.dumps({"share": share, "generators": [0, 1]})
    )

    answer = account.answer(request)

    assert answer["Status"] == "FAILED"
    assert "a generator failed, and less than the load was offered" in answer["Reason"]


@pytest.mark.usefixtures("endpoint")
def test_a_load_that_would_cost_more_than_the_budget_is_not_begun(account: Account) -> None:
    subject = {**benchmark_document()["subject"], "usd_per_hour": 10.0}

    answer = account.ask(max_usd=0.0001, subject=subject)

    assert answer["Status"] == "FAILED"
    assert "of load by 3 generators would cost 0.0" in answer["Reason"]
