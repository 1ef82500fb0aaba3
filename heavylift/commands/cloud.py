"""`up`, `deploy`, `destroy`, `down`, `status`, `synth`, `diff`, `weights push`: commands about what is deployed.

Not the deployment's steps (heavylift.deploy), and not traffic to an endpoint (traffic.py).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heavylift.commands import aim
from heavylift.deploy import cdk, purge, stacks
from heavylift.deploy.console import Console
from heavylift.deploy.flow import Deployment, Missed, Outcome, Unjudged
from heavylift.deploy.prepare import prepare
from heavylift.deploy.state import state, text
from heavylift.deploy.told import calls, tell
from heavylift.errors import DeployError, InputError
from heavylift.plan.show import show
from heavylift.project import Project


def up(chosen: argparse.Namespace) -> int:
    """Start the embedded AWS and deploy to it; interrupted, stop it if it did not run before."""
    if not chosen.local:
        raise InputError(
            "`heavylift up` works on this machine: add --local; to deploy to an account, use `heavylift deploy FILE`"
        )
    with _deployment(chosen, steps=7) as deployment:
        console, embedded = deployment.console, aim.embedded(deployment.project)
        prepared = deployment.prepared
        plans = (prepared.plan, *(other.plan for other in prepared.others.values()))
        aim.check_engines(deployment.project, [plan.engine for plan in plans])
        found_running = embedded.running() is not None
        try:
            with console.step("embedded AWS"):
                running = aim.start(deployment.project, chosen.port)
                console.detail(f"http://localhost:{running.port}, process {running.pid}")
            return _deploy(deployment)
        except KeyboardInterrupt:
            if found_running:
                deployment.abandon()
            else:
                console.say("interrupted: stopping the embedded AWS")
                embedded.stop()
            raise


def deploy(chosen: argparse.Namespace) -> int:
    """Deploy to the account of the environment, or to the embedded AWS that runs."""
    with _deployment(chosen, steps=5) as deployment:
        if chosen.local:
            aim.at_running(deployment.project)
        try:
            aim.check_account(deployment.prepared.account, local=chosen.local)
            return _deploy(deployment, retries=chosen.retry_capacity)
        except KeyboardInterrupt:
            deployment.abandon()
            raise


@contextmanager
def _deployment(chosen: argparse.Namespace, steps: int) -> Iterator[Deployment]:
    """The project held, the model file validated and planned, the lock written."""
    file = chosen.file.resolve()
    project, console = Project.find(file.parent), Console(total=steps)
    with project.only_one(chosen.command):
        with console.step(f"plan {chosen.file}"):
            prepared = prepare(file, console.progress("checksums"), env=chosen.env)
            if chosen.command in ("up", "deploy"):  # the others change no endpoint
                for line in show(prepared.plan).splitlines():
                    console.detail(line)
        local = chosen.command == "up" or getattr(chosen, "local", False)
        if not local:
            aim.at_region(prepared.region)
        yield Deployment(project, prepared, console, local)


def _deploy(deployment: Deployment, *, retries: int = 0) -> int:
    console, plan = deployment.console, deployment.prepared.plan
    if retries < 0:
        raise InputError(f"--retry-capacity must be 0 or more: got {retries}")
    with console.step("cdk synth"):
        deployment.synth()
    deployment.check_quotas()
    if deployment.local:
        with console.step("cdk bootstrap"):
            deployment.bootstrap()
    with console.step("foundation stack"):
        outputs = deployment.foundation().outputs
    with console.step("weights push"):
        deployment.push(outputs["WeightsBucketName"])
    try:
        with console.step("serving stack: model, endpoint, benchmark gate"):
            outcome = deployment.serve(outputs["ReportsBucketName"], retries)
    except (Missed, Unjudged) as refused:
        _show(refused.outcome)
        raise
    console.say(f"up in {sum(console.seconds.values()):.1f} s")
    _show(outcome)
    workload = None if plan.benchmark is None else plan.benchmark.workload
    how = calls(plan.name, deployment.prepared.file, workload, local=deployment.local)
    print(f"\nendpoint {plan.name} is up, its stack {outcome.status}\n{how}")
    return 0


def _show(outcome: Outcome) -> None:
    if outcome.run is not None and outcome.folder is not None:
        print(flush=True)
        tell(outcome.run.report, outcome.folder, measured_now=outcome.measured_now)


def weights_push(chosen: argparse.Namespace) -> int:
    """Copy the weights and the rendered options to the foundation's bucket."""
    with _deployment(chosen, steps=2) as deployment:
        if chosen.local:
            aim.at_running(deployment.project)
        found = deployment.found_foundation().outputs
        with deployment.console.step("weights push"):
            deployment.push(found["WeightsBucketName"])
    return 0


def synth(chosen: argparse.Namespace) -> int:
    """Write the templates of one model, or of all, by the locks that they have."""
    output = None if chosen.output is None else chosen.output.resolve()
    if chosen.file is None:
        project, console = Project.find(Path.cwd()), Console(total=1)
        with project.only_one(chosen.command), _written(project, console, output):
            code = cdk.synth(project, None, chosen.env, output=output, line=console.detail)
            if code != 0:
                raise DeployError(f"cdk synth failed (exit code {code}); its lines are above")
        return 0
    with _deployment(chosen, steps=2) as deployment, _written(deployment.project, deployment.console, output):
        deployment.synth(output)
    return 0


@contextmanager
def _written(project: Project, console: Console, output: Path | None) -> Iterator[None]:
    """The step of synthesis, and where its templates are."""
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)  # what cannot be made is told here, and not by Node
    with console.step("cdk synth"):
        yield
    print(project.assembly if output is None else output)


def diff(chosen: argparse.Namespace) -> int:
    """Show what a deployment of one model would change."""
    with _deployment(chosen, steps=2) as deployment:
        if chosen.local:
            aim.at_running(deployment.project)
        with deployment.console.step("cdk synth"):
            deployment.synth()
        names = [f"{stacks.FOUNDATION}*", stacks.serving(deployment.prepared.plan.name)]
        return cdk.diff(deployment.project, names, line=lambda text: print(text, end=""))


def destroy(chosen: argparse.Namespace) -> int:
    """Remove a model's stack; with --purge its weights and reports too, and the foundation when no model is left."""
    with _deployment(chosen, steps=4 if chosen.purge else 3) as deployment:
        if chosen.local:
            aim.at_running(deployment.project)
        console, name = deployment.console, stacks.serving(deployment.prepared.plan.name)
        with console.step("cdk synth"):
            deployment.synth()
        with console.step(f"destroy {name}"):
            deployment.destroy()
        if chosen.purge:
            with console.step("purge"):
                for line in purge.purge(deployment.prepared.plan):
                    console.detail(line)
    return 0


def down(chosen: argparse.Namespace) -> int:
    """Stop the embedded AWS and everything in it. Reports that were fetched stay in .heavylift/reports."""
    project = Project.find(Path.cwd())
    with project.only_one("down"):
        aws = aim.embedded(project)
        running = aws.running()
        aws.stop()
    print("nothing is up" if running is None else f"stopped the embedded AWS (process {running.pid}) and its endpoints")
    return 0


def status(chosen: argparse.Namespace) -> int:
    """What is up: in the embedded AWS, or with --account in the account of the environment."""
    project = Project.find(Path.cwd())
    running = aim.embedded(project).running()
    found: dict[str, object] = {"embedded_aws": None, "stacks": [], "endpoints": []}
    if chosen.account:
        found |= state()
    elif running is not None:
        aim.at_running(project)
        found |= {"embedded_aws": {"pid": running.pid, "port": running.port}, **state()}
    print(json.dumps(found, indent=2) if chosen.json else text(found))
    return 0
