"""Runs the pinned CDK CLI over app.py, line by line.

Not the toolchain that finds Node and the CLI: that is heavylift.local.toolchain.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from heavylift.local import toolchain
from heavylift.project import Project

APP = f"{shlex.quote(sys.executable)} app.py"
"""The app command; the CDK CLI gives it to a shell, so the interpreter's path is quoted."""

HINTS = ("Successfully synthesized to ", "Supply a stack id ")
"""Lines of `cdk synth` to somebody who typed it himself."""
ON_THE_WAY = ("start: ", "success: ", "Hold on while we create ")
"""Lines of `cdk diff` about what it does before it compares."""


def run(
    project: Project,
    arguments: Sequence[str],
    *,
    app: str = APP,
    environ: Mapping[str, str] = os.environ,
    line: Callable[[str], None],
) -> int:
    """The CDK CLI's exit code; each line that it prints goes to `line`. Ends it, and waits, when interrupted."""
    command = [*toolchain.cdk(project.root), *arguments, "--app", app, "--no-notices", "--no-color"]
    env = {**environ, "JSII_NODE": str(toolchain.node()), "CDK_DISABLE_CLI_TELEMETRY": "true"}
    with subprocess.Popen(
        command,
        cwd=project.root,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches us alone; we end the whole group below
    ) as process:
        try:
            assert process.stdout is not None
            for text in process.stdout:
                line(text)
            return process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise


def synth(
    project: Project,
    model: Path | None,
    env: str | None = None,
    *,
    output: Path | None = None,
    here: bool = False,
    line: Callable[[str], None],
) -> int:
    """Write the cloud assembly of one model file (or of all), in an environment of it, to `output`: project.assembly
    where None. `here`: for the embedded AWS, whatever account and region the file says; the CDK does not look at the
    templates by AWS's rules then."""
    chosen = [] if model is None else ["--context", f"model={model}"]
    chosen += [] if env is None else ["--context", f"env={env}"]
    chosen += ["--context", "here=yes"] if here else []
    folder = project.assembly if output is None else output

    def telling(text: str) -> None:
        if not text.startswith(HINTS):
            line(text)

    environ = {**os.environ, "CDK_VALIDATION": "false"} if here else os.environ
    return run(project, ["synth", "--quiet", "--output", str(folder), *chosen], environ=environ, line=telling)


def bootstrap(project: Project, environment: str, *, line: Callable[[str], None]) -> int:
    """Bootstrap `aws://account/region`; the assembly stands in for the app, which it does not need."""
    return run(project, ["bootstrap", environment], app=str(project.assembly), line=line)


def deploy(project: Project, stack: str, *, line: Callable[[str], None]) -> int:
    """Deploy one stack of the assembly that `synth` wrote."""
    arguments = ["deploy", stack, "--exclusively", "--require-approval", "never", "--progress", "events"]
    return run(project, arguments, app=str(project.assembly), line=line)


def diff(project: Project, stacks: Sequence[str], *, line: Callable[[str], None]) -> int:
    """Compare stacks of the assembly with those that stand."""

    def telling(text: str) -> None:
        if not text.startswith(ON_THE_WAY):
            line(text)

    return run(project, ["diff", *stacks], app=str(project.assembly), line=telling)


def destroy(project: Project, stack: str, *, line: Callable[[str], None]) -> int:
    """Destroy one stack of the assembly."""
    return run(project, ["destroy", stack, "--exclusively", "--force"], app=str(project.assembly), line=line)
