"""AWS's own containers by framework and version, and which machine image runs which of them."""

from __future__ import annotations

from typing import Any

import pytest
from aws_cdk import Environment
from aws_cdk.assertions import Annotations

from heavylift.errors import InputError
from heavylift.plan.containers import table
from heavylift.plan.images import amis
from heavylift_cdk import Container, Instances, ModelEndpoint, Pool, Pools, RuntimeImage, Variant
from heavylift_cdk.compatibility import MIDDLE, NEW, RUNS, ami_for, cuda_of
from tests.cdk import App, Match, Stack, Template, resolve

B200 = "ml.p6-b200.48xlarge"
TABLE = table()


def endpoint(stack: Stack, image: RuntimeImage, type_: str, ami: str | None = None) -> ModelEndpoint:
    variant = Variant(Instances(type_), (Container(image),), inference_ami_version=ami)
    return ModelEndpoint(stack, "Endpoint", variants=[variant])


def test_a_container_of_aws_is_named_as_sagemaker_core_names_it() -> None:
    stack = Stack(App(), "stack", env=Environment(account="123456789012", region="ap-east-1"))
    endpoint(stack, RuntimeImage.from_dlc("lmi", "0.36.0"), "ml.g5.xlarge", NEW)

    (model,) = Template.from_stack(stack).find_resources("AWS::SageMaker::Model").values()
    uri = resolve(model["Properties"]["PrimaryContainer"]["Image"], {"AWS::URLSuffix": "amazonaws.com"})
    assert uri == "871362719292.dkr.ecr.ap-east-1.amazonaws.com/djl-inference:0.36.0-lmi27.0.0-cu130"
    assert TABLE["source"].startswith("sagemaker-core ")


def test_the_historic_container_of_fastertransformer_is_an_image_that_can_be_asked_for() -> None:
    stack = Stack(App(), "stack", env=Environment(account="123456789012", region="us-east-1"))
    endpoint(stack, RuntimeImage.from_dlc("fastertransformer", "0.23.0"), "ml.g5.12xlarge")

    (model,) = Template.from_stack(stack).find_resources("AWS::SageMaker::Model").values()
    uri = resolve(model["Properties"]["PrimaryContainer"]["Image"], {"AWS::URLSuffix": "amazonaws.com"})
    assert uri.endswith("/djl-inference:0.23.0-fastertransformer5.3.0-cu118")


def test_a_stack_for_any_region_looks_its_registry_up() -> None:
    stack = Stack(App(), "stack")
    endpoint(stack, RuntimeImage.from_dlc("neuronx", "0.29.0"), "ml.inf2.xlarge")

    (mapping,) = Template.from_stack(stack).to_json()["Mappings"].values()
    missing = TABLE["frameworks"]["neuronx"]["0.29.0"]["not_in"]
    assert mapping["eu-west-1"] == {"account": "763104351884"}
    assert missing and not set(missing) & set(mapping)


def test_what_aws_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"no vllm container of version '9\.9'; there are 0\.23\.0, "):
        RuntimeImage.from_dlc("vllm", "9.9")
    with pytest.raises(InputError, match=r"neuronx 0\.29\.0 is not in 'mars-north-1'; it is in "):
        RuntimeImage.from_dlc("neuronx", "0.29.0", region="mars-north-1")


@pytest.mark.parametrize(
    ("image", "type_", "ami", "sentence"),
    [
        (("lmi", "0.36.0"), "ml.g5.xlarge", None, "an image of CUDA 13.0 needs 'inference_ami_version'"),
        (("lmi", "0.36.0"), "ml.g5.xlarge", "al2-ami-sagemaker-inference-gpu-2", "does not run an image of CUDA 13.0"),
        (("lmi", "0.36.0"), "ml.inf2.xlarge", None, "the image is for gpu, and ml.inf2.xlarge is neuron"),
        (("neuronx", "0.29.0"), "ml.g5.xlarge", None, "the image is for neuron, and ml.g5.xlarge is gpu"),
        (("neuronx", "0.29.0"), "ml.inf2.xlarge", NEW, f"'{NEW}' is for gpu, and ml.inf2.xlarge is neuron"),
        (("lmi", "0.34.0"), B200, MIDDLE, f"has driver 550, which does not know B200 of {B200}: use {NEW}"),
        (("lmi", "0.32.0"), B200, NEW, f"CUDA 12.6 has nothing for B200 of {B200}: use one of CUDA 12.8 or newer"),
        (("deepspeed", "0.25.0"), "ml.p2.xlarge", MIDDLE, "driver 550, which does not know K80 of ml.p2.xlarge: leave"),
    ],
)
def test_an_image_that_would_end_without_a_log_is_refused(
    image: tuple[Any, str], type_: str, ami: str | None, sentence: str
) -> None:
    with pytest.raises(InputError) as raised:
        endpoint(Stack(App(), "stack"), RuntimeImage.from_dlc(*image), type_, ami)

    assert sentence in str(raised.value)


def test_a_type_that_the_stacks_region_does_not_host_is_a_warning_and_elsewhere_none() -> None:
    pools = Pools((Pool("ml.p5.48xlarge", 1), Pool("ml.g5.xlarge", 2)))
    image = RuntimeImage.from_uri("123456789012.dkr.ecr.eu-west-1.amazonaws.com/a:1")

    def told(**env: Any) -> list[str]:
        stack = Stack(App(), "stack", **env)
        ModelEndpoint(stack, "Endpoint", variants=[Variant(pools, (Container(image),))])
        found = Annotations.from_stack(stack).find_warning("*", Match.any_value())
        return [str(each.entry.data) for each in found]

    (sentence,) = told(env=Environment(account="123456789012", region="eu-west-1"))
    assert sentence.startswith("SageMaker did not host endpoints on ml.p5.48xlarge in eu-west-1 on ")
    assert sentence.endswith("[ack: heavylift:region]")
    assert told(env=Environment(account="123456789012", region="us-east-1")) == told() == []


def test_every_pool_must_run_the_image() -> None:
    image = RuntimeImage.from_dlc("lmi", "0.36.0")
    pools = Pools((Pool("ml.g5.xlarge", 1), Pool("ml.c6i.xlarge", 2)))

    with pytest.raises(InputError, match=r"the image is for gpu, and ml\.c6i\.xlarge is cpu"):
        ModelEndpoint(
            Stack(App(), "stack"),
            "Endpoint",
            variants=[Variant(pools, (Container(image),), inference_ami_version=NEW)],
        )


def test_the_table_names_amis_that_there_are_and_every_cuda_of_awss_containers() -> None:
    known = {each.version for each in amis()}
    tags = [row["tag"] for versions in TABLE["frameworks"].values() for row in versions.values()]

    assert {ami for allowed in RUNS.values() for ami in allowed} <= known
    assert {cuda for tag in tags if (cuda := cuda_of(tag)) is not None} <= set(RUNS)
    assert (ami_for("13.0", "ml.g5.xlarge"), ami_for("11.8", "ml.g5.xlarge")) == (NEW, None)
    assert ami_for("12.8", "ml.p6-b200.48xlarge") == NEW
    assert ami_for("13.0", "ml.inf2.xlarge") is None
