"""The environment of a container: the plan's own, where the weights are, and, in network isolation, every option.

Not the options' meaning: the runtime's options.py reads them.
"""

from __future__ import annotations

from collections.abc import Iterable

from heavylift.errors import InputError
from heavylift.plan.plan import Plan

MODEL_ID = "OPTION_MODEL_ID"

# CreateModel's limits (SageMaker API reference, ContainerDefinition.Environment).
MAX_ENTRIES = 100
MAX_CHARACTERS = 1024

# serving.properties' keys that are neither `engine` nor `option.*` belong to the server; two of them are camel case.
_SERVER_KEYS = {"minWorkers": "MIN_WORKERS", "maxWorkers": "MAX_WORKERS"}


def container_environment(plan: Plan, weights_uri: str) -> dict[str, str]:
    """Names and values, sorted; `weights_uri` is s3://bucket/weights/<digest>/. Raises InputError with every fault."""
    environment = dict(as_environment(plan.properties)) if plan.enable_network_isolation else {MODEL_ID: weights_uri}
    faults = [
        f"'environment' must not set {name}: the plan sets it; use the model file's own fields"
        for name in sorted(environment.keys() & plan.environment.keys())
    ]
    if plan.enable_network_isolation and plan.model.code is not None:
        faults.append(
            f"'enable_network_isolation' cannot carry the user's code, got code={plan.model.code}: "
            f"SageMaker downloads the weights alone; leave out one of the two"
        )
    environment |= plan.environment
    if len(environment) > MAX_ENTRIES:
        faults.append(f"a container's environment has at most {MAX_ENTRIES} entries: got {len(environment)}")
    faults += [
        f"a value of a container's environment has at most {MAX_CHARACTERS} characters: {name} has {len(value)}"
        for name, value in sorted(environment.items())
        if len(value) > MAX_CHARACTERS
    ]
    if faults:
        raise InputError(faults)
    return dict(sorted(environment.items()))


def as_environment(properties: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """serving.properties as environment: `option.x` → OPTION_X, `engine` → OPTION_ENGINE, server keys → SERVING_*."""
    for key, value in properties:
        if key.startswith("option."):
            yield f"OPTION_{key.removeprefix('option.').upper()}", value
        elif key == "engine":
            yield "OPTION_ENGINE", value
        else:
            yield f"SERVING_{_SERVER_KEYS.get(key, key.upper())}", value
