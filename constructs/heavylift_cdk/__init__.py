"""The constructs: a plan in, CloudFormation out; each takes objects and grants, never names and full access.

Not the stacks that put them together: those are in stacks/. No AWS call is made here.
"""

from heavylift_cdk.benchmark_gate import BenchmarkGate
from heavylift_cdk.model_endpoint import ModelEndpoint
from heavylift_cdk.runtime_image import RuntimeImage
from heavylift_cdk.weights_ready import WeightsReady

__all__ = ["BenchmarkGate", "ModelEndpoint", "RuntimeImage", "WeightsReady"]
