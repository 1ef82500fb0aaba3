"""A fleet as SageMaker's endpoint configuration: a variant for each type, each with instance pools to fall back on.

Not the deployment. An instance pool has a type and a priority, but no count of its own: SageMaker takes the next pool
where a type cannot be had (API_InstancePool). So each type of the fleet is a variant with its count, and its further
pools are types of which the same count carries the same load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from heavylift.plan.fleet.answer import Fleet, Served
from heavylift.plan.fleet.problem import MOST_POOLS, TOLERANCE, Offer, Problem

LONGEST_NAME = 63
HOSTED = "ml."  # how a SageMaker instance type begins


def endpoint_config(
    name: str,
    problem: Problem,
    fleet: Fleet,
    settings: Mapping[str, dict[str, Any]],
    models: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """CreateEndpointConfig's request. `settings` are further properties of a type's variant (time-outs, volume);
    `models` the SageMaker models of types that serve with another parallel plan than the others, else `name`.

    Asserts that the fleet's types are SageMaker's.
    """
    total = problem.requests_per_second
    return {
        "EndpointConfigName": f"{name}-fleet",
        "ProductionVariants": [
            {
                "VariantName": served.name.replace(".", "-")[:LONGEST_NAME],
                "ModelName": models.get(served.name, name),
                "InitialInstanceCount": served.count,
                "InitialVariantWeight": round(served.requests_per_second / total, 6) if total > 0 else 1.0,
                "InstancePools": [
                    _pool(pool, priority, models.get(pool, name), models.get(served.name, name))
                    for priority, pool in enumerate(pools(problem, fleet, served), 1)
                ],
                "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
                **settings.get(served.name, {}),
            }
            for served in fleet.types
        ],
    }


def _pool(pool: str, priority: int, model: str, variant_model: str) -> dict[str, Any]:
    """With a model of its own where the variant's would run with the wrong degrees."""
    found: dict[str, Any] = {"InstanceType": pool, "Priority": priority}
    return found if model == variant_model else found | {"ModelNameOverride": model}


def hosted(fleet: Fleet) -> bool:
    """Whether every type is one of SageMaker's, and not a GPU's name out of a table."""
    return all(served.name.startswith(HOSTED) for served in fleet.types)


def pools(problem: Problem, fleet: Fleet, served: Served) -> tuple[str, ...]:
    """The type itself, then the cheapest that carry its load with the same count; at most five."""
    assert served.name.startswith(HOSTED), f"{served.name} is no SageMaker instance type"
    others = sorted(
        (offer.usd_per_hour, offer.name)
        for offer in problem.offers
        if offer.name != served.name and offer.name.startswith(HOSTED) and _carries(problem, fleet, offer, served)
    )
    return (served.name, *(name for _, name in others[: MOST_POOLS - 1]))


def _carries(problem: Problem, fleet: Fleet, offer: Offer, served: Served) -> bool:
    shares = {share.bucket: share.share for share in served.shares}
    loads = []
    for place, bucket in enumerate(problem.buckets):
        if bucket in shares:
            load = problem.load(offer, place)
            if load is None:
                return False
            loads.append(shares[bucket] * load)
    if offer.at_most is not None and fleet.counts.get(offer.name, 0) + served.count > offer.at_most:
        return False
    return math.fsum(loads) <= (1 - problem.head_room) * served.count * (1 + TOLERANCE)
