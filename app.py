"""The CDK app: the foundation, and a serving stack for each file in models/, or for the one of `--context model=FILE`.

Not the `heavylift` command, which runs it. Synthesis is pure: it reads model files, their locks and the fact tables,
and knows no clock, no network and no account. `--context image=URI` takes a built image in place of the runtime's own,
`--context env=NAME` an environment of the model files.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aws_cdk import Annotations, App

from heavylift.deploy.stacks import FOUNDATION, serving
from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.lock import read_fresh
from heavylift.plan.plan import Plan
from heavylift.project import Project
from heavylift.spec import ModelSpec, environments
from heavylift_cdk import RuntimeImage
from stacks.foundation import FoundationStack
from stacks.serving import ServingStack

ROOT = Path(__file__).resolve().parent


def main() -> None:
    """Synthesize everything; raises InputError with the faults of all model files."""
    app = App()
    foundation = FoundationStack(app, FOUNDATION)
    faults: list[str] = []
    env: str | None = app.node.try_get_context("env")
    for file in model_files(app.node.try_get_context("model"), env):
        try:
            add_model(app, foundation, file, env)
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(dict.fromkeys(faults))
    app.synth()


def model_files(chosen: str | None, env: str | None = None) -> list[Path]:
    """The chosen file, or all of models/ that have the environment; relative to the working directory, for the faults'
    sake."""
    files = Project(ROOT).models() if chosen is None else [Path(chosen)]
    if chosen is None and env is not None:
        files = [file for file in files if env in environments(file)]
    return [Path(os.path.relpath(file)) for file in files]


def add_model(app: App, foundation: FoundationStack, file: Path, env: str | None = None) -> None:
    """The serving stack of one model file, in an environment of it or none."""
    spec = ModelSpec.from_yaml(file, env)
    lock = read_fresh(spec, file, env)
    plan = Plan.fit(spec, lock)
    id = serving(plan.name)
    if app.node.try_find_child(id) is not None:
        raise InputError(f"{file}: 'name' must be this file's alone, or it replaces another's stack: got {plan.name}")
    uri: str | None = app.node.try_get_context("image")
    hardware = facts.instances()[plan.instance.type].hardware
    assert hardware != "gaudi", "no engine runs there, so no plan is made for it"
    image = RuntimeImage.from_runtime(hardware) if uri is None else RuntimeImage.from_uri(uri)
    typed = os.path.relpath(file, ROOT) if env is None else f"{os.path.relpath(file, ROOT)} --env {env}"
    stack = ServingStack(app, id, plan=plan, model_file=typed, foundation=foundation, image=image)
    if (outdated := lock.known.outdated()) is not None:
        Annotations.of(stack).add_warning_v2(
            "heavylift:facts", f"{outdated}; `heavylift plan {typed}` writes them anew"
        )


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
