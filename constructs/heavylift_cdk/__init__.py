"""The constructs, for anybody's CDK app: typed values in, CloudFormation out; each grants, none takes full access.

Not the stacks that put them together: those are in stacks/. No AWS call is made here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heavylift_cdk.alarms import Alarms, Limit
    from heavylift_cdk.benchmark_gate import BenchmarkGate
    from heavylift_cdk.capacity import Instances, Pool, Pools, Serverless
    from heavylift_cdk.container import Container
    from heavylift_cdk.dashboard import Dashboard
    from heavylift_cdk.endpoint_benchmark import EndpointBenchmark
    from heavylift_cdk.execution_role import ExecutionRole
    from heavylift_cdk.inference_component import InferenceComponent, Placement, Resources
    from heavylift_cdk.live_config import LiveConfig
    from heavylift_cdk.model_data import ModelData
    from heavylift_cdk.model_endpoint import ModelEndpoint
    from heavylift_cdk.network import Network
    from heavylift_cdk.planned import container_of, read_plan, variant_of
    from heavylift_cdk.predictive import Predictive
    from heavylift_cdk.prepared import Prepared, Preparing
    from heavylift_cdk.recording import Asynchronous, DataCapture, Metrics
    from heavylift_cdk.rollout import Rollout
    from heavylift_cdk.rules import Rules
    from heavylift_cdk.runtime_image import RuntimeImage
    from heavylift_cdk.scaling import Scaling, Schedule, Tracking
    from heavylift_cdk.staging import Staged, Staging
    from heavylift_cdk.variant import CoreDump, ManagedInstances, Routing, Variant
    from heavylift_cdk.weights import Weights
    from heavylift_cdk.weights_ready import WeightsReady

__all__ = [
    "Alarms",
    "Asynchronous",
    "BenchmarkGate",
    "Container",
    "CoreDump",
    "Dashboard",
    "DataCapture",
    "EndpointBenchmark",
    "ExecutionRole",
    "InferenceComponent",
    "Instances",
    "Limit",
    "LiveConfig",
    "ManagedInstances",
    "Metrics",
    "ModelData",
    "ModelEndpoint",
    "Network",
    "Placement",
    "Pool",
    "Pools",
    "Predictive",
    "Prepared",
    "Preparing",
    "Resources",
    "Rollout",
    "Routing",
    "Rules",
    "RuntimeImage",
    "Scaling",
    "Schedule",
    "Serverless",
    "Staged",
    "Staging",
    "Tracking",
    "Variant",
    "Weights",
    "WeightsReady",
    "container_of",
    "read_plan",
    "variant_of",
]

_HOMES = {
    "Alarms": "alarms",
    "Asynchronous": "recording",
    "BenchmarkGate": "benchmark_gate",
    "Container": "container",
    "CoreDump": "variant",
    "Dashboard": "dashboard",
    "DataCapture": "recording",
    "EndpointBenchmark": "endpoint_benchmark",
    "ExecutionRole": "execution_role",
    "InferenceComponent": "inference_component",
    "Instances": "capacity",
    "Limit": "alarms",
    "LiveConfig": "live_config",
    "ManagedInstances": "variant",
    "Metrics": "recording",
    "ModelData": "model_data",
    "ModelEndpoint": "model_endpoint",
    "Network": "network",
    "Placement": "inference_component",
    "Pool": "capacity",
    "Pools": "capacity",
    "Predictive": "predictive",
    "Prepared": "prepared",
    "Preparing": "prepared",
    "Resources": "inference_component",
    "Rollout": "rollout",
    "Routing": "variant",
    "Rules": "rules",
    "RuntimeImage": "runtime_image",
    "Scaling": "scaling",
    "Schedule": "scaling",
    "Serverless": "capacity",
    "Staged": "staging",
    "Staging": "staging",
    "Tracking": "scaling",
    "Variant": "variant",
    "Weights": "weights",
    "WeightsReady": "weights_ready",
    "container_of": "planned",
    "read_plan": "planned",
    "variant_of": "planned",
}
"""The module of each, imported when it is asked for: each brings another part of the CDK, and that takes time."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
