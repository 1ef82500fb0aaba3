"""Reads a model file, inspects its weights, writes its lock and fits its plan: all that precedes a deployment.

Not a deployment. A lock that is the same as before is not written again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heavylift.deploy.pools import plan_of
from heavylift.deploy.variants import Other, others_of
from heavylift.plan.lock import Lock, lock_path
from heavylift.plan.performance.coefficients import Calibration
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift.weights.inspect import Progress, inspect, store_of
from heavylift.weights.published import published
from heavylift.weights.store import Store


@dataclass(frozen=True)
class Prepared:
    """A model file (absolute path), in one of its environments or none, with its lock, its plan, its weights' place;
    the account and region that it names; how many instances of which types it asks for at first; its variants and its
    shadow; whether it is a multi-model endpoint, whose archives are not ours to push; whether a job brings the
    weights."""

    file: Path
    lock: Lock
    plan: Plan
    weights: Store
    env: str | None = None
    account: str | None = None
    region: str | None = None
    instances: dict[str, int] = field(default_factory=dict)
    others: dict[str, Other] = field(default_factory=dict)
    archives: bool = False
    staged: bool = False


def prepare(
    file: Path,
    progress: Progress,
    calibrations: Sequence[Calibration] = (),
    *,
    wide: bool = False,
    env: str | None = None,
    config: Path | None = None,
) -> Prepared:
    """Raises InputError with every fault. The lock is written only when the plan fits. `calibrations`, `wide`: as
    Plan.fit has them; a deployment has neither, and no `config`: a config.json to plan with, the weights unread."""
    spec = ModelSpec.from_yaml(file, env)
    client = None
    if spec.model.s3 is not None:
        import boto3  # a plan of a local folder needs no AWS

        client = boto3.client("s3")
    lock = inspect(spec, file.parent, client, progress) if config is None else published(spec, file.parent, config)
    plan, others = plan_of(spec, lock, calibrations, wide=wide), others_of(spec, lock)
    path = lock_path(file, env)
    if not path.is_file() or path.read_text(encoding="utf-8") != lock.to_json():
        lock.write(path)
    return Prepared(
        file,
        lock,
        plan,
        store_of(spec, file.parent, client),
        env,
        spec.account,
        spec.region,
        _instances(spec, plan, others),
        others,
        spec.multi_model is not None,
        spec.staging.by == "job",
    )


def _instances(spec: ModelSpec, plan: Plan, others: Mapping[str, Other]) -> dict[str, int]:
    """Of pools, none: where one type has no quota, SageMaker takes the next."""
    plans = [other.plan for other in others.values() if other.spec.instance_pools is None]
    if not spec.variants and spec.instance_pools is None:
        plans.append(plan)
    count: Counter[str] = Counter()
    for each in plans:
        count[each.instance.type] += each.instance.count
    return dict(count)
