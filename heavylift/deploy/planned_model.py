"""PlannedModel: a model file with all that synthesis needs of it: the spec, the lock, and the plans of both.

Not its making for a deployment, which inspects weights and writes the lock (prepare.py): nothing outside is asked.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from heavylift.deploy.pools import plan_of
from heavylift.deploy.variants import Other, others_of
from heavylift.errors import InputError
from heavylift.plan.lock import Lock, read_fresh
from heavylift.plan.plan import Plan
from heavylift.project import Project
from heavylift.spec import ModelSpec, environments
from heavylift.spec.container import StagingSpec


@dataclass(frozen=True)
class PlannedModel:
    """`typed` is what a user types for this file, from the checkout; `others` are its variants and its shadow."""

    file: Path
    typed: str
    spec: ModelSpec
    lock: Lock
    plan: Plan
    others: dict[str, Other]

    @classmethod
    def read(cls, file: Path, env: str | None = None, *, root: Path, here: bool = False) -> PlannedModel:
        """In an environment of the file or none; `here`: for the embedded AWS. Raises InputError with every fault."""
        spec = ModelSpec.from_yaml(file, env)
        if here:
            spec = pushed_and_unbuilt(spec)
        lock = read_fresh(spec, file, env)
        plan, others = plan_of(spec, lock), others_of(spec, lock)
        if spec.staging.by == "job" and not lock.model.weights.files:
            raise InputError(
                f"{file}: the lock was made without the weights, whose digest the staging job compares; "
                f"`heavylift plan {file}` asks the hub for it"
            )
        path = os.path.relpath(file, root)
        return cls(file, path if env is None else f"{path} --env {env}", spec, lock, plan, others)


def read(file: Path, chosen: str | None, env: str | None, *, root: Path, here: bool) -> PlannedModel | None:
    """None for one of all files that has not the environment; a chosen file must have it. Raises InputError."""
    if chosen is None and env is not None and env not in environments(file):
        return None
    return PlannedModel.read(file, env, root=root, here=here)


def model_files(root: Path, chosen: str | None) -> list[Path]:
    """The chosen file, or all of models/; relative to the working directory, for the faults' sake."""
    files = Project(root).models() if chosen is None else [Path(chosen)]
    return [Path(os.path.relpath(file)) for file in files]


def pushed_and_unbuilt(spec: ModelSpec) -> ModelSpec:
    """What the embedded AWS has of the file: no CodeBuild. The weights are pushed, and no image is ever built there."""
    built = spec.image is not None and spec.image.build is not None
    return spec.model_copy(update={"staging": StagingSpec(), "image": None if built else spec.image})
