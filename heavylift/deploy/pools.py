"""The plan of a model file that may run on several instance types: that of the first pool, if the model fits on all.

Not the pools' capacity: SageMaker looks for that when it deploys.
"""

from __future__ import annotations

from collections.abc import Sequence

from heavylift.errors import InputError
from heavylift.plan.lock import Lock
from heavylift.plan.performance.coefficients import Calibration
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec


def plan_of(spec: ModelSpec, lock: Lock, calibrations: Sequence[Calibration] = (), *, wide: bool = False) -> Plan:
    """Plan.fit, for each pool where there are any. Raises InputError with the faults of every type."""
    if spec.instance_pools is None:
        return Plan.fit(spec, lock, calibrations, wide=wide)
    plans, faults = [], []
    for pool in sorted(spec.instance_pools, key=lambda each: each.priority):
        try:
            chosen = spec.model_copy(update={"instance_type": pool.instance_type})
            plans.append(Plan.fit(chosen, lock, calibrations, wide=wide))
        except InputError as error:
            faults += [f"on {pool.instance_type}: {fault}" for fault in error.faults]
    digests = {plan.config_digest for plan in plans}
    if len(digests) > 1:
        degrees = ", ".join(f"{plan.instance.type}: {plan.tensor_parallel_degree}" for plan in plans)
        faults.append(
            f"{spec.name}: one container runs on every pool, so 'tensor_parallel_degree' must be the same on all: "
            f"got {degrees}; give a number"
        )
    if faults:
        raise InputError(faults)
    return plans[0]
