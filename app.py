"""The CDK app: the foundation, and a serving stack for each file in models/, or for the one of `--context model=FILE`.

Not the `heavylift` command, which runs it. Synthesis is pure: it reads model files, their locks and the fact tables,
and knows no clock, no network and no account. `--context image=URI` takes a built image in place of the runtime's own,
`--context env=NAME` an environment of the model files, `--context benchmark='rate(1 day)'` (or `by-hand`) a stack
beside each model's that measures its endpoint again.

The CDK's own look at the templates takes longer than all the rest, so it is asked for: CDK_VALIDATION=true, as
`heavylift deploy` has it for an account. What SageMaker would refuse, the constructs refuse by themselves.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aws_cdk import Annotations, App, Environment

from heavylift.deploy.pools import plan_of
from heavylift.deploy.stacks import FOUNDATION, benchmark, foundation_id, serving
from heavylift.deploy.variants import others_of
from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.lock import read_fresh
from heavylift.plan.plan import Plan
from heavylift.project import Project
from heavylift.spec import ModelSpec, environments
from heavylift.spec.container import StagingSpec
from heavylift_cdk import RuntimeImage
from stacks.benchmark import BY_HAND, BenchmarkStack
from stacks.foundation import FoundationStack
from stacks.serving import ServingStack

ROOT = Path(__file__).resolve().parent


def main() -> None:
    """Synthesize everything; raises InputError with the faults of all model files."""
    app = App(builtin_cloud_formation_validation=os.environ.get("CDK_VALIDATION") == "true")
    faults: list[str] = []
    env: str | None = app.node.try_get_context("env")
    for file in model_files(app.node.try_get_context("model"), env):
        try:
            add_model(app, file, env)
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(dict.fromkeys(faults))
    if not app.node.children:  # no model yet: what outlives them can be deployed
        FoundationStack(app, FOUNDATION)
    app.synth()


def model_files(chosen: str | None, env: str | None = None) -> list[Path]:
    """The chosen file, or all of models/ that have the environment; relative to the working directory, for the faults'
    sake."""
    files = Project(ROOT).models() if chosen is None else [Path(chosen)]
    if chosen is None and env is not None:
        files = [file for file in files if env in environments(file)]
    return [Path(os.path.relpath(file)) for file in files]


def foundation_of(app: App, spec: ModelSpec) -> FoundationStack:
    """What outlives the model in its account and region: one for all models there. `--context here=yes`: in the
    account and region of the credentials, whatever the file says, as the embedded AWS needs it."""
    given = (None, None) if app.node.try_get_context("here") else (spec.account, spec.region)
    id = foundation_id(*given)
    found = app.node.try_find_child(id)
    assert found is None or isinstance(found, FoundationStack)
    return FoundationStack(app, id, env=Environment(account=given[0], region=given[1])) if found is None else found


def add_model(app: App, file: Path, env: str | None = None) -> None:
    """The serving stack of one model file, in an environment of it or none."""
    spec = ModelSpec.from_yaml(file, env)
    if app.node.try_get_context("here"):
        spec = pushed_and_unbuilt(spec)
    lock = read_fresh(spec, file, env)
    plan, others = plan_of(spec, lock), others_of(spec, lock)
    if spec.staging.by == "job" and not lock.model.weights.files:
        raise InputError(
            f"{file}: the lock was made without the weights, whose digest the staging job compares; `heavylift plan "
            f"{file}` asks the hub for it"
        )
    id = serving(plan.name)
    if app.node.try_find_child(id) is not None:
        raise InputError(f"{file}: 'name' must be this file's alone, or it replaces another's stack: got {plan.name}")
    foundation = foundation_of(app, spec)
    typed = os.path.relpath(file, ROOT) if env is None else f"{os.path.relpath(file, ROOT)} --env {env}"
    stack = ServingStack(
        app,
        id,
        plan=plan,
        model_file=typed,
        foundation=foundation,
        image=image_of(app, spec, plan, foundation),
        spec=spec,
        others=others,
        images={name: image_of(app, spec, other.plan, foundation) for name, other in others.items()},
        env=Environment(account=foundation.env_account, region=foundation.env_region),
    )
    if plan.benchmark is not None and (every := app.node.try_get_context("benchmark")) is not None:
        schedule = None if every == BY_HAND else every
        there = Environment(account=foundation.env_account, region=foundation.env_region)
        BenchmarkStack(
            app, benchmark(plan.name), plan=plan, foundation=foundation, schedule=schedule, spec=spec, env=there
        )
    if (outdated := lock.known.outdated()) is not None:
        Annotations.of(stack).add_warning_v2(
            "heavylift:facts", f"{outdated}; `heavylift plan {typed}` writes them anew"
        )


def pushed_and_unbuilt(spec: ModelSpec) -> ModelSpec:
    """What the embedded AWS has of the file: no CodeBuild. The weights are pushed, and no image is ever built there."""
    built = spec.image is not None and spec.image.build is not None
    return spec.model_copy(update={"staging": StagingSpec(), "image": None if built else spec.image})


def image_of(app: App, spec: ModelSpec, plan: Plan, foundation: FoundationStack) -> RuntimeImage:
    """The one of `--context image=URI`, else the file's, else Heavylift's own for the plan's hardware, built by Docker
    or by CodeBuild."""
    uri: str | None = app.node.try_get_context("image")
    if uri is None and spec.image is not None:
        uri = spec.image.uri
    if uri is not None:
        return RuntimeImage.from_uri(uri)
    if spec.image is not None and spec.image.dlc is not None:
        return RuntimeImage.from_dlc(spec.image.dlc.framework, spec.image.dlc.version)
    hardware = facts.instances()[plan.instance.type].hardware
    assert hardware != "gaudi", "no engine runs there, so no plan is made for it"
    sdk = None if spec.compile is None else spec.compile.neuron_sdk
    if spec.image is not None and spec.image.build == "codebuild":
        return RuntimeImage.from_codebuild(
            hardware,
            repository=foundation.images,
            weights=foundation.store,
            log_group=foundation.log_group,
            neuron_sdk=sdk,
        )
    return RuntimeImage.from_runtime(hardware, neuron_sdk=sdk)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
