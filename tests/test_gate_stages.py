"""Where a new model is measured before it serves, against the embedded AWS: staging endpoints and dark variants."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from heavylift.benchmark.client import SageMakerClient
from heavylift.benchmark.dark import Dark
from heavylift.benchmark.gate import undone
from heavylift.benchmark.stage import GateClosed, InPlace, Stage, described, replaces
from heavylift.benchmark.staging import Staging
from tests.embedded import Embedded
from tests.local_stack import ROLE

pytestmark = pytest.mark.slow
NUMBERS = itertools.count()


@pytest.fixture
def aws(local_aws: Embedded, monkeypatch: pytest.MonkeyPatch) -> Iterator[Embedded]:
    """Our own boto3 clients speak to the embedded AWS."""
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", local_aws.running.url)
    yield local_aws


def config(aws: Embedded, model: str, **environment: str) -> str:
    """A new EndpointConfig whose only variant says that it is `model`."""
    sagemaker, name = aws.client("sagemaker"), f"{model}-{next(NUMBERS)}"
    container = {"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/m:1"}
    container["Environment"] = {"MODEL_NAME": model, **environment}  # type: ignore[assignment]
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InstanceType": "ml.c6i.xlarge",
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1,
        "ContainerStartupHealthCheckTimeoutInSeconds": 60,
    }
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    return name


def endpoint(aws: Embedded, config: str) -> str:
    name = f"endpoint-{next(NUMBERS)}"
    aws.client("sagemaker").create_endpoint(EndpointName=name, EndpointConfigName=config)
    still(name)
    return name


def still(name: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (found := described(name)) is not None and found["EndpointStatus"].endswith("ing"):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    assert found is not None
    return found


def until_ready(stage: Stage) -> Stage:
    deadline = time.monotonic() + 60
    while not stage.ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return stage


def model(name: str, variant: str | None = None) -> str:
    body = SageMakerClient(name, concurrency=1, variant=variant).invoke(b"{}")
    return str(json.loads(body)["model"])


def configs(aws: Embedded) -> set[str]:
    found = aws.client("sagemaker").list_endpoint_configs(MaxResults=100)["EndpointConfigs"]
    return {each["EndpointConfigName"] for each in found}


def clean(aws: Embedded, *names: str) -> None:
    for name in names:
        aws.client("sagemaker").delete_endpoint(EndpointName=name)


def quick(seconds: float) -> None:
    time.sleep(0.02)


def test_a_dark_variant_is_measured_while_the_old_one_serves_and_then_takes_over(aws: Embedded) -> None:
    old, new = config(aws, "old"), config(aws, "new")
    name = endpoint(aws, old)
    stage = until_ready(Dark(name, new))

    dark = model(name, stage.place.variant), [model(name) for _ in range(4)]
    while not stage.promote():
        quick(0)
    flipped = [model(name) for _ in range(4)]
    aws.client("sagemaker").update_endpoint(EndpointName=name, EndpointConfigName=new)  # as CloudFormation does then
    still(name)
    tidied, left = stage.undo(), described(name)
    clean(aws, name)

    assert (str(stage.place), dark) == (f"{name}/dark-AllTraffic", ("new", ["old"] * 4))
    assert flipped == ["new"] * 4
    assert tidied and stage.place.config not in configs(aws)
    assert left is not None and left["EndpointConfigName"] == new


def test_a_refused_dark_variant_goes_and_the_old_one_serves_on_as_before(aws: Embedded) -> None:
    old, new = config(aws, "old"), config(aws, "new")
    name = endpoint(aws, old)
    stage = until_ready(Dark(name, new))

    undone(stage, time.monotonic() + 30, quick)
    left, answers = still(name), [model(name) for _ in range(3)]
    clean(aws, name)

    assert left["EndpointConfigName"] == old
    assert [(each["VariantName"], each["DesiredWeight"]) for each in left["ProductionVariants"]] == [("AllTraffic", 1)]
    assert answers == ["old"] * 3
    assert stage.place.config not in configs(aws)


def test_a_promotion_can_be_taken_back_weights_and_all(aws: Embedded) -> None:
    old, new = config(aws, "old"), config(aws, "new")
    name = endpoint(aws, old)
    stage = until_ready(Dark(name, new))
    while not stage.promote():
        quick(0)

    undone(Dark(name, new), time.monotonic() + 30, quick)  # by another Lambda, that knows nothing but the names
    left, answers = still(name), [model(name) for _ in range(3)]
    clean(aws, name)

    assert (left["EndpointConfigName"], left["ProductionVariants"][0]["DesiredWeight"]) == (old, 1)
    assert answers == ["old"] * 3


def test_a_dark_variant_that_cannot_start_is_told_and_nothing_is_left_of_it(aws: Embedded) -> None:
    old, new = config(aws, "old"), config(aws, "new", EXIT_AT_START="1")
    name = endpoint(aws, old)
    stage = Dark(name, new)

    with pytest.raises(GateClosed, match=r"could not take the dark variant: .*the weights are truncated"):
        until_ready(stage)
    undone(stage, time.monotonic() + 30, quick)
    left = still(name)
    clean(aws, name)

    assert left["EndpointConfigName"] == old
    assert stage.place.config not in configs(aws)


def test_a_staging_endpoint_is_measured_and_goes_and_the_other_never_notices(aws: Embedded) -> None:
    old, new = config(aws, "old"), config(aws, "new")
    name = endpoint(aws, old)
    before = described(name)
    stage = until_ready(Staging(name, new))

    staged = model(stage.place.endpoint), model(name)
    done = stage.promote()
    deadline = time.monotonic() + 30
    while described(stage.place.endpoint) is not None:
        assert time.monotonic() < deadline
        quick(0)
    after = described(name)
    clean(aws, name)

    assert (stage.place.endpoint, staged, done) == (f"{name}-staging", ("new", "old"), True)
    assert before == after or (before and after and before["LastModifiedTime"] == after["LastModifiedTime"])


def test_what_a_killed_run_left_on_the_staging_endpoint_is_not_measured(aws: Embedded) -> None:
    old, older, new = config(aws, "old"), config(aws, "older"), config(aws, "new")
    name = endpoint(aws, old)
    until_ready(Staging(name, older))

    stage = until_ready(Staging(name, new))
    answer = model(stage.place.endpoint)
    undone(stage, time.monotonic() + 30, quick)
    clean(aws, name)

    assert answer == "new"


def test_a_staging_endpoint_that_cannot_start_is_told_and_goes(aws: Embedded) -> None:
    name = endpoint(aws, config(aws, "old"))
    stage = Staging(name, config(aws, "new", EXIT_AT_START="1"))

    with pytest.raises(GateClosed, match=r"-staging is Failed: .*the weights are truncated"):
        until_ready(stage)
    undone(stage, time.monotonic() + 30, quick)
    deadline = time.monotonic() + 30
    while described(stage.place.endpoint) is not None:
        assert time.monotonic() < deadline
        quick(0)
    clean(aws, name)


def test_there_are_users_to_protect_only_where_an_endpoint_serves_something_else(aws: Embedded) -> None:
    old, new = config(aws, "old"), config(aws, "new")
    name = endpoint(aws, old)

    found = [replaces(name, new), replaces(name, old), replaces("absent", new)]
    clean(aws, name)

    assert found == [True, False, False]


def test_a_component_that_is_not_what_was_deployed_closes_the_gate(aws: Embedded) -> None:
    sagemaker, number = aws.client("sagemaker"), next(NUMBERS)
    name, component = f"hosting-{number}", f"component-{number}"
    variant = {"VariantName": "v", "InstanceType": "ml.c6i.xlarge", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ExecutionRoleArn=ROLE, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    still(name)
    models = [config(aws, "one"), config(aws, "two")]  # named as their configs

    def specification(model: str) -> dict[str, Any]:
        needs = {"MinMemoryRequiredInMb": 256}
        times = {"ContainerStartupHealthCheckTimeoutInSeconds": 60}
        return {"ModelName": model, "ComputeResourceRequirements": needs, "StartupParameters": times}

    def settled() -> None:
        deadline = time.monotonic() + 60
        while True:
            found = sagemaker.describe_inference_component(InferenceComponentName=component)
            if not found["InferenceComponentStatus"].endswith("ing"):
                return
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    with pytest.raises(GateClosed, match=f"there is no inference component {component}"):
        InPlace(name, name, component).ready()
    sagemaker.create_inference_component(
        InferenceComponentName=component, EndpointName=name, Specification=specification(models[0]),
        RuntimeConfig={"CopyCount": 1},
    )  # fmt: skip
    settled()
    ready = InPlace(name, name, component, models[0]).ready()
    with pytest.raises(GateClosed, match=f"has the Model {models[0]}, not {models[1]}, which was deployed"):
        InPlace(name, name, component, models[1]).ready()
    broken = config(aws, "three", EXIT_AT_START="1")
    sagemaker.update_inference_component(InferenceComponentName=component, Specification=specification(broken))
    settled()
    with pytest.raises(GateClosed, match=r"is InService \(.*the weights are truncated"):
        InPlace(name, name, component).ready()
    sagemaker.delete_inference_component(InferenceComponentName=component)
    deadline = time.monotonic() + 60
    while sagemaker.list_inference_components(EndpointNameEquals=name)["InferenceComponents"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    clean(aws, name)

    assert ready
