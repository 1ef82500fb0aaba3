"""Several production variants, and a shadow, in the embedded AWS: who answers, how shares move, what failures leave."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.embedded import Deployed, Embedded
from tests.local_stack import stack
from tests.served import eventually

pytestmark = pytest.mark.slow


def variants(endpoint: str, *given: dict[str, Any], shadow: dict[str, Any] | None = None) -> dict[str, Any]:
    """A template with a model for each variant; `given` are MODEL_NAME, Weight and further environment."""
    template = stack(endpoint, {})
    resources = template["Resources"]
    model, config = resources.pop("Model"), resources["Config"]["Properties"]
    (plain,) = config.pop("ProductionVariants")
    config["ProductionVariants"] = []
    for each in (*given, *(() if shadow is None else (shadow,))):
        name, weight, environment = each["MODEL_NAME"], each["Weight"], {k: v for k, v in each.items() if k != "Weight"}
        made = json.loads(json.dumps(model))
        made["Properties"]["PrimaryContainer"]["Environment"] = environment
        resources[f"Model{name}"] = made
        row = {**plain, "VariantName": name, "InitialVariantWeight": weight}
        row["ModelName"] = {"Fn::GetAtt": [f"Model{name}", "ModelName"]}
        member = "ShadowProductionVariants" if each is shadow else "ProductionVariants"
        config.setdefault(member, []).append(row)
    return template


def who(aws: Embedded, endpoint: str, times: int = 1, **options: str) -> Counter[str]:
    """Which variants answered, by their models' own word and by SageMaker's header."""
    found: Counter[str] = Counter()
    for _ in range(times):
        reply = aws.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=endpoint, ContentType="application/json", Body=b"{}", **options
        )
        model = json.load(reply["Body"])["model"]
        assert reply["InvokedProductionVariant"] == model
        found[model] += 1
    return found


def shares(aws: Embedded, endpoint: str, member: str = "ProductionVariants") -> dict[str, float]:
    rows = aws.client("sagemaker").describe_endpoint(EndpointName=endpoint)[member]
    return {row["VariantName"]: row["CurrentWeight"] for row in rows}


def deployed(aws: Embedded, endpoint: str, *given: dict[str, Any], **options: Any) -> Deployed:
    made = aws.deploy(endpoint, variants(endpoint, *given, **options))
    assert made.status.endswith("_COMPLETE"), made.events
    return made


def test_a_variant_of_weight_zero_answers_only_who_names_it(local_aws: Embedded) -> None:
    deployed(local_aws, "dark", {"MODEL_NAME": "old", "Weight": 1}, {"MODEL_NAME": "new", "Weight": 0})

    assert who(local_aws, "dark", 8) == {"old": 8}
    assert who(local_aws, "dark", TargetVariant="new") == {"new": 1}
    with pytest.raises(ClientError, match="no variant 'newer'"):
        who(local_aws, "dark", TargetVariant="newer")
    local_aws.destroy("dark")


def test_traffic_follows_the_weights_and_moves_with_them_while_both_serve(local_aws: Embedded) -> None:
    sagemaker = local_aws.client("sagemaker")
    deployed(local_aws, "shares", {"MODEL_NAME": "a", "Weight": 3}, {"MODEL_NAME": "b", "Weight": 1})

    before = who(local_aws, "shares", 8)
    wanted = [{"VariantName": "a", "DesiredWeight": 0}, {"VariantName": "b", "DesiredWeight": 1}]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName="shares", DesiredWeightsAndCapacities=wanted)
    after = who(local_aws, "shares", 4)
    with pytest.raises(ClientError, match="no variant 'c'"):
        sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="shares",
            DesiredWeightsAndCapacities=[
                {"VariantName": "a", "DesiredWeight": 5},
                {"VariantName": "c", "DesiredWeight": 1},
            ],
        )
    kept = shares(local_aws, "shares")
    none = [{"VariantName": name, "DesiredWeight": 0} for name in ("a", "b")]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName="shares", DesiredWeightsAndCapacities=none)
    with pytest.raises(ClientError, match="every variant of endpoint shares has weight 0"):
        who(local_aws, "shares")
    local_aws.destroy("shares")

    assert (before, after) == ({"a": 6, "b": 2}, {"b": 4})
    assert kept == {"a": 0.0, "b": 1.0}


def test_an_update_with_one_variant_that_cannot_start_keeps_every_old_one(local_aws: Embedded) -> None:
    old = {"MODEL_NAME": "old", "Weight": 1}
    deployed(local_aws, "half", old, {"MODEL_NAME": "dark", "Weight": 0})
    config = local_aws.client("sagemaker").describe_endpoint(EndpointName="half")["EndpointConfigName"]

    broken = {"MODEL_NAME": "new", "Weight": 0, "EXIT_AT_START": "1"}
    failed = local_aws.deploy("half", variants("half", old, broken))
    described = local_aws.client("sagemaker").describe_endpoint(EndpointName="half")
    answers = who(local_aws, "half", 2), who(local_aws, "half", TargetVariant="dark")
    local_aws.destroy("half")

    assert failed.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "the weights are truncated" in failed.reasons("Endpoint")
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", config)
    assert answers == ({"old": 2}, {"dark": 1})


def test_an_update_retains_what_it_is_told_to(local_aws: Embedded) -> None:
    sagemaker = local_aws.client("sagemaker")
    deployed(local_aws, "first", {"MODEL_NAME": "a", "Weight": 1})
    deployed(local_aws, "second", {"MODEL_NAME": "a", "Weight": 1}, {"MODEL_NAME": "b", "Weight": 2})
    config = sagemaker.describe_endpoint(EndpointName="second")["EndpointConfigName"]
    wanted = [{"VariantName": "a", "DesiredWeight": 7, "DesiredInstanceCount": 3}]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName="first", DesiredWeightsAndCapacities=wanted)

    sagemaker.update_endpoint(
        EndpointName="first",
        EndpointConfigName=config,
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredInstanceCount"}],
    )
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="first", WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    rows = sagemaker.describe_endpoint(EndpointName="first")["ProductionVariants"]
    for name in ("first", "second"):
        local_aws.destroy(name)

    assert [(row["VariantName"], row["DesiredWeight"], row["DesiredInstanceCount"]) for row in rows] == [
        ("a", 7.0, 1),
        ("b", 2.0, 1),
    ]


def test_a_shadow_gets_copies_and_answers_nobody(local_aws: Embedded) -> None:
    shadow = {"MODEL_NAME": "shadow", "Weight": 1, "REQUESTS_FILE": "1"}
    deployed(local_aws, "shadowed", {"MODEL_NAME": "real", "Weight": 2}, shadow=shadow)

    answers = who(local_aws, "shadowed", 6)
    with pytest.raises(ClientError, match="no variant 'shadow'"):
        who(local_aws, "shadowed", TargetVariant="shadow")
    home = local_aws.aws.home / "endpoints" / "shadowed"

    def copied() -> int:
        return sum(len(file.read_text()) for file in home.glob("*/home/requests"))

    eventually(lambda: copied() >= 3)
    copies = copied()
    weights = shares(local_aws, "shadowed", "ShadowProductionVariants")
    local_aws.destroy("shadowed")

    assert answers == {"real": 6}
    assert copies == 3, "half the weight, half the requests"
    assert weights == {"shadow": 1.0}


def test_variants_that_cannot_be_are_refused(local_aws: Embedded) -> None:
    a, b = {"MODEL_NAME": "a", "Weight": 1}, {"MODEL_NAME": "b", "Weight": 1}
    twice = variants("twice", a, b)
    twice["Resources"]["Config"]["Properties"]["ProductionVariants"][1]["VariantName"] = "a"
    three = variants("three", a, b, shadow={"MODEL_NAME": "c", "Weight": 1})

    found = {name: local_aws.deploy(name, template) for name, template in (("twice", twice), ("three", three))}
    for name in found:
        local_aws.destroy(name)

    assert "variant names must differ; got a, a" in found["twice"].reasons("Config")
    assert "exactly one production variant" in found["three"].reasons("Config")
