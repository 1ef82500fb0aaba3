"""Aims this process, and what it starts, at the embedded AWS: whoever calls AWS from here on reaches loopback.

Not the embedded AWS itself: that is heavylift.local.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import heavylift_runtime
from heavylift.errors import InputError
from heavylift.local.embedded import EmbeddedAws, Running
from heavylift.local.environment import refuse_real_aws, without_aws
from heavylift.project import Project
from heavylift_runtime.engines.interpreter import own_environment
from heavylift_runtime.engines.registry import ENGINES


def embedded(project: Project) -> EmbeddedAws:
    """The embedded AWS of a checkout, running or not."""
    return EmbeddedAws(project.home / "local")


def start(project: Project, port: int | None) -> Running:
    """Start the embedded AWS unless it runs already, and aim at it."""
    _set(without_aws(os.environ))  # before pip, npm and Node are started
    runtime_root = Path(heavylift_runtime.__file__).parent.parent
    aws = embedded(project)
    running = aws.start(runtime_python=Path(sys.executable), runtime_root=runtime_root, port=port)
    _aim(aws, running)
    return running


def at_running(project: Project) -> Running:
    """Aim at the embedded AWS that runs; InputError when none does."""
    aws = embedded(project)
    running = aws.running()
    if running is None:
        raise InputError("the embedded AWS is not running; start it with `heavylift up FILE --local`")
    _aim(aws, running)
    return running


def check_engines(project: Project, engines: Iterable[str]) -> None:
    """InputError where the embedded AWS would not find an engine's packages."""
    faults = []
    for row in (ENGINES[name] for name in sorted(set(engines))):
        if row.missing() is not None and own_environment(row, project.root) is None:
            faults.append(
                f"engine {row.name} is not installed: `make {row.target}` installs it into .venv-{row.name}, where the "
                "embedded AWS finds it"
                if row.target is not None
                else str(row.missing())
            )
    if faults:
        raise InputError(faults)


def at_region(region: str | None) -> None:
    """Aim at the model file's region; at the environment's where it names none."""
    if region is not None:
        os.environ["AWS_REGION"] = os.environ["AWS_DEFAULT_REGION"] = region


def check_account(account: str | None, *, local: bool) -> None:
    """InputError where the credentials are not of the model file's account; the embedded AWS stands in for any."""
    if account is None or local:
        return
    import boto3

    found = boto3.client("sts").get_caller_identity()["Account"]
    if found != account:
        raise InputError(
            f"the model file's account is {account}, and the credentials are of {found}: change one of them"
        )


def _aim(aws: EmbeddedAws, running: Running) -> None:
    local = aws.environment(running)
    refuse_real_aws(local)
    _set(local)  # the user's credentials and profile have no business on loopback


def _set(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)
