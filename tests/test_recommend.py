"""The parameters of CreateAIRecommendationJob: what botocore's own model of the API takes, of the three best types."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from heavylift.deploy.recommend import best_types, job
from heavylift.errors import InputError
from heavylift.plan.parts import Alternative
from heavylift.plan.plan import Plan
from tests.locked import SMALL, lock_of, spec_of

ROLE = "arn:aws:iam::123456789012:role/recommend"


def parameters(plan: Plan, **changes: str) -> dict[str, Any]:
    given = {
        "model_uri": f"s3://bucket/{plan.weights_prefix}",
        "output_uri": "s3://bucket/recommendations/x/",
        "role_arn": ROLE,
        "workload_config": "x",
    }
    return job(plan, **{**given, **changes})


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan.fit(spec_of(tags={"team": "a"}), lock_of(SMALL), wide=True)


def test_botocore_takes_the_parameters_and_they_name_three_types_at_most(plan: Plan) -> None:
    found = parameters(plan)

    model = botocore.session.get_session().get_service_model("sagemaker")
    shape = model.operation_model("CreateAIRecommendationJob").input_shape
    assert not ParamValidator().validate(found, shape).has_errors()
    types = found["ComputeSpec"]["InstanceTypes"]
    allowed = shape.members["ComputeSpec"].members["InstanceTypes"]
    assert 1 <= len(set(types)) == len(types) <= allowed.metadata["max"] and set(types) <= set(allowed.member.enum)
    assert found["OptimizeModel"] is False and found["Tags"] == [{"Key": "team", "Value": "a"}]
    assert found["PerformanceTarget"] == {"Constraints": [{"Metric": "cost"}]}


def test_the_likeliest_come_first_and_then_the_cheapest(plan: Plan) -> None:
    one = plan.alternatives[0]

    def named(name: str, usd: float, probability: float) -> Alternative:
        return replace(one, instance_type=name, usd_per_hour=usd, probability=probability)

    rows = [
        named("a", 1.0, 0.2),
        named("b", 9.0, 0.99),
        named("c", 5.0, 0.91),
        named("c", 4.0, 0.5),
        named("d", 0.1, 1),
    ]

    assert [each.instance_type for each in best_types(rows, ["a", "b", "c"], 3)] == ["c", "b", "a"]
    assert [each.instance_type for each in best_types(rows, ["a", "b", "c"], 1)] == ["c"]


def test_every_wrong_value_is_told_at_once(plan: Plan) -> None:
    with pytest.raises(InputError) as caught:
        parameters(plan, role_arn="me", model_uri="s3://B/x/", workload_config="a b")

    text = "\n".join(caught.value.faults)
    assert "RoleArn is 'me'; it must match arn:aws" in text
    assert "ModelSource is 's3://B/x/'; it must be s3://bucket/prefix/" in text
    assert "AIWorkloadConfigIdentifier is 'a b'" in text


def test_a_plan_without_gpus_is_refused() -> None:
    narrow = Plan.fit(spec_of(), lock_of(SMALL))

    with pytest.raises(InputError, match="it measures GPUs only"):
        parameters(narrow)
