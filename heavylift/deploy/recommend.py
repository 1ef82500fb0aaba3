"""The plan's three best instance types as the parameters of SageMaker's CreateAIRecommendationJob. Sends nothing.

The job deploys them and measures; it takes GPUs only, and at most three types. Its limits are read from botocore's own
model of the API, so that they are those of the SDK that would send them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heavylift.errors import InputError
from heavylift.plan.parts import Alternative
from heavylift.plan.performance.throughput import SURE
from heavylift.plan.plan import Plan

OPERATION = "CreateAIRecommendationJob"


def job(plan: Plan, *, model_uri: str, output_uri: str, role_arn: str, workload_config: str) -> dict[str, Any]:
    """`workload_config`: name or ARN of an AIWorkloadConfig of the account. Raises InputError with every fault."""
    types, most = _limits()
    chosen = best_types(plan.alternatives, types, most)
    if not chosen:
        raise InputError(f"no alternative of {plan.name} is on a type that {OPERATION} takes: it measures GPUs only")
    parameters = {
        "AIRecommendationJobName": plan.name,
        "ModelSource": {"S3": {"S3Uri": model_uri}},
        "OutputConfig": {"S3OutputLocation": output_uri},
        "AIWorkloadConfigIdentifier": workload_config,
        "PerformanceTarget": {"Constraints": [{"Metric": metric} for metric in _metrics(plan)]},
        "RoleArn": role_arn,
        "InferenceSpecification": {"Framework": "VLLM" if {each.engine for each in chosen} == {"vllm"} else "LMI"},
        "OptimizeModel": False,  # what changes the answers is for the user to ask
        "ComputeSpec": {"InstanceTypes": [each.instance_type for each in chosen]},
        "Tags": [{"Key": key, "Value": value} for key, value in plan.tags.items()],
    }
    if faults := _faults(parameters):
        raise InputError(f"{OPERATION}: {fault}" for fault in faults)
    return parameters


def best_types(alternatives: Sequence[Alternative], types: Sequence[str], most: int) -> list[Alternative]:
    """Of each allowed type the best: most likely to keep the targets (all above 90 % are equal), then the cheapest."""
    ranked = sorted(alternatives, key=lambda each: (-min(each.probability, SURE), each.usd_per_hour))
    found: dict[str, Alternative] = {}
    for each in ranked:
        if each.instance_type in types:
            found.setdefault(each.instance_type, each)
    return list(found.values())[:most]


def _metrics(plan: Plan) -> list[str]:
    """What the model file has targets for; cost where it has none that the job knows."""
    wanted = [] if plan.benchmark is None else [target["metric"] for target in plan.benchmark.slo]
    names = {"ttft": "ttft-ms", "tokens_per_second": "throughput"}
    return [names[metric] for metric in dict.fromkeys(wanted) if metric in names] or ["cost"]


def _limits() -> tuple[list[str], int]:
    """The instance types that the job takes, and how many."""
    types = _shape().members["ComputeSpec"].members["InstanceTypes"]
    return list(types.member.enum), int(types.metadata["max"])


def _faults(parameters: dict[str, Any]) -> list[str]:
    """What the API's own model refuses: kinds, missing members, lengths, and patterns that botocore does not check."""
    import re

    from botocore.validate import ParamValidator

    report = ParamValidator().validate(parameters, _shape())
    found = [report.generate_report()] if report.has_errors() else []
    for name in ("AIRecommendationJobName", "AIWorkloadConfigIdentifier", "RoleArn"):
        pattern = _shape().members[name].metadata["pattern"]
        if not re.fullmatch(pattern, parameters[name]):
            found.append(f"{name} is {parameters[name]!r}; it must match {pattern}")
    for name, uri in (
        ("ModelSource", parameters["ModelSource"]["S3"]["S3Uri"]),
        ("OutputConfig", parameters["OutputConfig"]["S3OutputLocation"]),
    ):
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.*", uri):
            found.append(f"{name} is {uri!r}; it must be s3://bucket/prefix/")
    return found


def _shape() -> Any:
    import botocore.session  # only this command needs the API's model, which takes a second to read

    model = botocore.session.get_session().get_service_model("sagemaker")
    return model.operation_model(OPERATION).input_shape
