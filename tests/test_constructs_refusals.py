"""What SageMaker and Auto Scaling would refuse is refused at synthesis, everything at once, with what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from heavylift.errors import InputError
from heavylift_cdk import (
    Alarms,
    Asynchronous,
    Container,
    DataCapture,
    InferenceComponent,
    Instances,
    Limit,
    ManagedInstances,
    Metrics,
    ModelData,
    ModelEndpoint,
    Network,
    Pool,
    Pools,
    Resources,
    Rollout,
    Routing,
    Scaling,
    Schedule,
    Serverless,
    Tracking,
    Variant,
)  # fmt: skip
from heavylift_cdk.model_data import key_faults
from tests.cdk import IMAGE, App, Stack, s3

IMAGES = (Container(IMAGE),)


@pytest.mark.parametrize(
    ("variant", "sentence"),
    [
        (Variant(Instances("g5.xlarge"), IMAGES), "an instance type looks like ml.g5.12xlarge: got 'g5.xlarge'"),
        (Variant(Instances("ml.g5.xlarge", 0), IMAGES), "'count' must be 1 to"),
        (Variant(Instances("ml.c6i.xlarge"), IMAGES, name="a_b"), "'name' must be letters, digits and inner hyphens"),
        (
            Variant(Instances("ml.g5.xlarge"), IMAGES, volume_size_in_gb=64),
            "left out on ml.g5.xlarge",
        ),
        (Variant(Instances("ml.c6i.xlarge"), IMAGES, volume_size_in_gb=513), "must be 1 to 512: got 513"),
        (
            Variant(Instances("ml.c6i.xlarge"), IMAGES, container_startup_health_check_timeout_in_seconds=59),
            "'container_startup_health_check_timeout_in_seconds' must be 60 to 3600: got 59",
        ),
        (Variant(Instances("ml.c6i.xlarge"), IMAGES, weight=-1), "'weight' must be 0 to inf: got -1"),
        (Variant(Pools(()), IMAGES), "'pools' must be 1 to 5: got 0"),
        (Variant(Pools((Pool("ml.g5.xlarge", 6),)), IMAGES), "'priority of ml.g5.xlarge' must be 1 to 5: got 6"),
        (Variant(Pools((Pool("ml.g5.xlarge", 1),) * 2), IMAGES), "each instance type is in one pool"),
        (Variant(Serverless(1500, 10), IMAGES), "'memory_size_in_mb' must be 1024, 2048, … 6144: got 1500"),
        (Variant(Serverless(1024, 10)), "inference components need instances"),
        (
            Variant(Instances("ml.c6i.xlarge"), IMAGES, routing=Routing("random", prefix_length=2048)),
            "are of prefix_aware routing: got random",
        ),
        (
            Variant(Instances("ml.c6i.xlarge"), IMAGES, managed_instances=ManagedInstances(0, 2)),
            "'managed_instances' are of inference components",
        ),
        (
            Variant(Instances("ml.c6i.xlarge"), (Container(IMAGE, environment={"HF_TOKEN": "hf_abc"}),)),
            "'HF_TOKEN' must not be plain text",
        ),
        (
            Variant(Instances("ml.c6i.xlarge"), (Container(IMAGE, environment={f"A{i}": "" for i in range(101)}),)),
            "at most 100 environment variables: got 101",
        ),
    ],
)
def test_a_variant_that_cannot_be_is_refused(variant: Variant, sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        ModelEndpoint(stack(), "Endpoint", variants=[variant])

    assert sentence in str(raised.value)


def test_settings_that_look_like_secrets_and_are_none_pass() -> None:
    harmless = {"OPTION_MAX_NEW_TOKENS": "64", "OPTION_ADD_BOS_TOKEN": "true", "HUB_TOKEN_SECRET_ARN": "arn:x"}

    assert list(Container(IMAGE, environment=harmless).faults()) == []


@pytest.mark.parametrize(
    ("rollout", "count", "sentence"),
    [
        (Rollout.canary("60%", wait=60), 4, "in percent' must be 1 to 50: got 60"),
        (Rollout.linear("5%", wait=60), 40, "in percent' must be 10 to 50: got 5"),
        (Rollout.rolling(3, wait=60), 4, "must be 5 to 50 % of 4 instances: got 3"),
        (Rollout.canary(1, wait=60), 1, "needs two instances or more"),
        (Rollout.canary("half", wait=60), 4, "a share such as '25%': got 'half'"),
        (Rollout.linear("25%", wait=600, timeout=2400), 4, "more than all waits together, 2400 s: got 2400"),
        (Rollout.all_at_once(timeout=599), 1, "'max_execution_timeout' must be 600 to 28800: got 599"),
        (Rollout.all_at_once(alarms=("a",) * 11), 1, "'alarms' must be 0 to 10: got 11"),
    ],
)
def test_a_rollout_that_cannot_be_is_refused(rollout: Rollout, count: int, sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        ModelEndpoint(stack(), "E", variants=[Variant(Instances("ml.c6i.xlarge", count), IMAGES)], rollout=rollout)

    assert sentence in str(raised.value)


def test_every_fault_is_named_at_once() -> None:
    where = stack()
    bucket = s3.Bucket(where, "Bucket")
    variant = Variant(Instances("ml.c6i.xlarge"), IMAGES, volume_size_in_gb=0, weight=-1)

    with pytest.raises(InputError) as raised:
        ModelEndpoint(
            where,
            "Endpoint",
            variants=[variant, variant],
            shadow=Variant(Serverless(1024, 1), IMAGES, name="s"),
            network=Network.from_ids((), ()),
            metrics=Metrics(publish_frequency_in_seconds=15),
            data_capture=DataCapture(bucket, "captures/", 101, ()),
            asynchronous=Asynchronous(bucket, "async/", include_response_in=("success",)),
        )

    said = "\n".join(raised.value.faults)
    for sentence in (
        "variants must have names of their own: got AllTraffic, AllTraffic, s",
        "a shadow variant goes with exactly one production variant: got 2",
        "'volume_size_in_gb' must be 1 to 512: got 0",
        "'subnets' must be 1 to 16: got 0",
        "one of 10, 30, 60, 120, 180, 240, 300: got 15",
        "'sampling_percentage' must be 0 to 100: got 101",
        "'capture' must name input, output, or both",
        "so 'success_topic' must be given",
        "asynchronous requests need instances with a model of their own: variant s has none",
    ):
        assert sentence in said


@pytest.mark.parametrize(
    ("type_", "minimum", "maximum", "options", "sentence"),
    [
        ("ml.c6i.xlarge", 0, 2, {}, "'minimum' 0 needs an asynchronous endpoint"),
        ("ml.c6i.xlarge", 2, 4, {}, "must lie from 'minimum' to 'maximum', 2 to 4: got 1"),
        ("ml.t2.xlarge", 1, 4, {}, "does not scale burstable types: got ml.t2.xlarge"),
        ("ml.c6i.xlarge", 1, 4, {"tracking": Tracking(0)}, "'target' must be more than 0"),
        ("ml.c6i.xlarge", 1, 4, {"tracking": Tracking(1, "backlog")}, "a backlog is of asynchronous endpoints"),
        ("ml.c6i.xlarge", 1, 4, {"schedules": [Schedule("n", "rate(1 hour)")]}, "schedule n must change"),
        ("ml.c6i.xlarge", 1, 4, {"schedules": [Schedule("n", "rate(1 hour)", 3, 2)]}, "at most 'maximum': got 3 and 2"),
        ("ml.c6i.xlarge", 1, 4, {"schedules": [Schedule("n", "rate(1 hour)", 5)]}, "at most 4, which nothing raises"),
        ("ml.c6i.xlarge", 1, 4, {"schedules": [Schedule("n", "rate(1 hour)", None, 0)]}, "must be at least 1: got 0"),
        ("ml.c6i.xlarge", 1, 4, {"schedules": [Schedule("n", "rate(1 hour)", 0)]}, "needs an asynchronous endpoint"),
    ],
)
def test_scaling_that_cannot_be_is_refused(
    type_: str, minimum: int, maximum: int, options: dict[str, Any], sentence: str
) -> None:
    where = stack()
    endpoint = ModelEndpoint(where, "Endpoint", variants=[Variant(Instances(type_), IMAGES)])
    asked: dict[str, Any] = {"tracking": Tracking(4), **options}

    with pytest.raises(InputError) as raised:
        Scaling.of_variant(where, "Scaling", endpoint=endpoint, minimum=minimum, maximum=maximum, **asked)

    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("resources", "options", "sentence"),
    [
        (Resources(64, 1), {}, "'min_memory_in_mb' must be 128 to"),
        (Resources(1024, 5), {}, "'accelerators' must be at most 4 on ml.g5.12xlarge: got 5"),
        (Resources(1024), {}, "'accelerators' must be given on ml.g5.12xlarge, which has 4"),
        (Resources(1 << 20, 1), {}, "'min_memory_in_mb' must be below the 196608 of ml.g5.12xlarge"),
        (Resources(1024, 1), {"copies": 0}, "'copies' must be 1 to 1000: got 0"),
        (Resources(1024, 1), {"rollout": Rollout.all_at_once()}, "by a rolling roll-out only: got all_at_once"),
    ],
)
def test_a_component_that_cannot_be_is_refused(resources: Resources, options: dict[str, Any], sentence: str) -> None:
    where = stack()
    endpoint = ModelEndpoint(where, "Endpoint", variants=[Variant(Instances("ml.g5.12xlarge"))])

    with pytest.raises(InputError) as raised:
        InferenceComponent(
            where, "Component", endpoint=endpoint, container=Container(IMAGE), resources=resources, **options
        )

    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (["a/../b"], "no part that is empty, '.' or '..': got 'a/../b'"),
        (["a//b"], "no part that is empty"),
        (["a/" + "x" * 256], "at most 255 bytes"),
        (["a", "a/b"], "'a' is a file and the folder of 'a/b'"),
    ],
)
def test_keys_that_are_no_paths_are_refused(keys: Iterable[str], sentence: str) -> None:
    assert sentence in "\n".join(key_faults(keys))


def test_model_data_is_a_folder_or_an_archive() -> None:
    bucket = s3.Bucket(stack(), "Bucket")

    for faulty in (
        lambda: ModelData.from_prefix(bucket, "weights/a1"),
        lambda: ModelData.from_archive(bucket, "a.t"),
    ):
        with pytest.raises(InputError, match=r"ends with '/'|is a \.tar\.gz"):
            faulty()
    assert list(key_faults(["config.json", "model/a.safetensors", "model/b.safetensors"])) == []


def test_an_alarm_that_an_endpoint_has_no_metric_for_is_refused() -> None:
    where = stack()
    endpoint = ModelEndpoint(where, "Endpoint", variants=[Variant(Instances("ml.c6i.xlarge"), IMAGES)])

    with pytest.raises(InputError, match="a backlog is of asynchronous endpoints") as raised:
        Alarms(where, "Alarms", endpoint=endpoint, limits=[Limit.backlog(most=1), Limit.errors("5xx", max_share=2)])

    assert "limit of errors_5xx is out of its range: got 2" in str(raised.value)


def stack() -> Stack:
    return Stack(App(), "refused")
