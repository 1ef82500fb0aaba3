"""What a model file can say and nothing honours yet: refused with a sentence, never ignored.

Whoever builds one of these takes its line out. A path leads to a field; its default needs no building.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from heavylift.spec.fault import Fault, dotted

NOT_YET: Mapping[tuple[str, ...], str] = MappingProxyType(
    {
        ("account",): "the account is the one of your credentials",
        ("region",): "the region is the one of your credentials",
        ("staging",): "`heavylift weights push` copies the weights",
        ("prompt",): "put the prompt together in the client, or in a script's handle()",
        ("image",): "the image is Heavylift's own; `cdk synth --context image=URI` takes another",
        ("partition",): "each rank splits the weights as it loads",
        ("compile",): "nothing is compiled ahead of time",
        ("secrets",): "a script can ask Secrets Manager itself",
        ("instance_pools",): "one instance_type is deployed",
        ("variant_instance_provision_timeout_in_seconds",): "it belongs to instance_pools",
        ("inference_ami_version",): "the plan chooses it",
        ("capacity_reservation",): "instances are on demand",
        ("enable_ssm_access",): "an instance cannot be entered",
        ("routing",): "SageMaker routes at random",
        ("network",): "the container runs in SageMaker's own network",
        ("kms_key",): "volumes are encrypted with AWS's own key",
        ("scaling",): "initial_instance_count instances run",
        ("managed_instances",): "initial_instance_count instances run",
        ("rollout",): "an update takes all traffic at once",
        ("monitoring",): "the alarm on the SLO is the only one",
        ("async_inference",): "requests are answered while the client waits",
        ("inference_components",): "the model has its instances to itself",
        ("variants",): "the endpoint has one variant",
        ("shadow",): "the endpoint has one variant",
        ("multi_model",): "the endpoint has one model",
    }
)
DEFAULTS: Mapping[tuple[str, ...], Any] = MappingProxyType(
    {
        ("inference_ami_version",): "auto",
        ("enable_ssm_access",): False,
    }
)


def not_yet(data: dict[str, Any]) -> Iterator[Fault]:
    """A fault for each field that is said, is not at its default, and is not built."""
    for path, instead in NOT_YET.items():
        value: Any = data
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        if value is not None and value != DEFAULTS.get(path) and value not in ({}, []):
            sentence = f"'{dotted(path)}' is known, but this version does not build it yet ({instead}); leave it out"
            yield Fault(path, sentence, at_key=True)
