"""Whether the account may run the instances that a plan asks for, by Service Quotas, before anything is deployed.

Not whether AWS has them: no API tells that. Needs servicequotas:ListServiceQuotas, sagemaker:ListEndpoints,
DescribeEndpoint and DescribeEndpointConfig.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from heavylift.errors import DeployError
from heavylift.plan.hosted import not_hosted


def check(
    quotas: Any,
    sagemaker: Any,
    endpoint: str,
    wanted: dict[str, int],
    region: str | None = None,
    jobs: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """One line for each type: its quota and what is used. `wanted` instances by type; `endpoint` is not counted, since
    its instances are the ones that are asked for. `jobs`: a type for each service, processing or training, one of it.

    Raises DeployError with every type whose quota is too small, and with every type that the region neither lists a
    quota for nor hosted when the table was made. Where an API refuses to tell, a line says so.
    """
    try:
        needed = [*map(_name, wanted), *(_job_name(service, type_) for service, type_ in jobs.items())]
        limits, used = _limits(quotas, needed), _used(sagemaker, endpoint)
    except (ClientError, BotoCoreError) as error:
        return [f"quotas not checked: {error}"]
    lines, faults = [], []
    for type_, count in wanted.items():
        limit = limits.get(_name(type_))
        if limit is None and region is not None and (sentence := not_hosted(type_, region)) is not None:
            faults.append(
                f"{sentence}; and Service Quotas has no quota '{_name(type_)}' there: take another of the two"
            )
            continue
        if limit is None:
            lines.append(f"{type_}: Service Quotas does not tell its quota")
            continue
        lines.append(f"{type_}: {count} wanted, {used[type_]} in other endpoints, quota {limit:g}")
        if count + used[type_] > limit:
            faults.append(
                f"the quota '{_name(type_)}' is {limit:g}: {count} wanted, {used[type_]} in other endpoints; raise it "
                f"to {count + used[type_]} at Service Quotas, Amazon SageMaker; an increase may take days"
            )
    for service, type_ in jobs.items():
        if limits.get(_job_name(service, type_)) == 0:
            faults.append(
                f"the quota '{_job_name(service, type_)}' is 0, and this model's artifact is made by such a job; raise "
                f"it to 1 at Service Quotas, Amazon SageMaker; an increase may take days"
            )
    if faults:
        raise DeployError("\n".join(faults))
    return lines


def _name(type_: str) -> str:
    """The quota's name (AWS General Reference, "Amazon SageMaker AI endpoints and quotas")."""
    return f"{type_} for endpoint usage"


def _job_name(service: str, type_: str) -> str:
    return f"{type_} for {service} job usage"


def _limits(quotas: Any, names: Collection[str]) -> dict[str, float]:
    found = {}
    for operation in ("list_aws_default_service_quotas", "list_service_quotas"):  # the account's own come last
        for page in quotas.get_paginator(operation).paginate(ServiceCode="sagemaker"):
            for row in page["Quotas"]:
                if row["QuotaName"] in names:
                    found[row["QuotaName"]] = float(row["Value"])
    return found


def _used(sagemaker: Any, endpoint: str) -> Counter[str]:
    """Instances of the account's other endpoints, by type."""
    used: Counter[str] = Counter()
    for page in sagemaker.get_paginator("list_endpoints").paginate():
        for row in page["Endpoints"]:
            if row["EndpointName"] == endpoint or row["EndpointStatus"] in ("Deleting", "Failed"):
                continue
            described = sagemaker.describe_endpoint(EndpointName=row["EndpointName"])
            config = sagemaker.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
            counts = {each["VariantName"]: each for each in described.get("ProductionVariants", [])}
            for variant in config["ProductionVariants"]:
                running = counts.get(variant["VariantName"], {}).get("DesiredInstanceCount")
                count = variant.get("InitialInstanceCount", 0) if running is None else running
                if "InstanceType" in variant:
                    used[variant["InstanceType"]] += count
    return used
