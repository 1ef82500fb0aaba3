"""A script's requirements.txt: are they there, or shall pip bring them? Not an installer of its own.

LMI installs at every start. Here that is asked for by `option.install_requirements=true`, because it needs a network,
takes time that counts against the health check, and runs what a package index gives; else a missing package is named.
Wheels that lie in the folder's own requirements/ are installed without being asked for, and without a network.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from heavylift_runtime.errors import LoadError


def satisfy(file: Path, install: bool, scratch: Path, report: Callable[[str], None]) -> Path | None:
    """The folder of the packages that were missing and are installed now, if any; raises LoadError."""
    if not file.is_file():
        return None
    missing = missing_of(file.read_text("utf-8"))
    if not missing:
        return None
    wheels = file.parent / "requirements"
    if not install and not wheels.is_dir():
        raise LoadError(
            f"requirements.txt is not satisfied: {'; '.join(missing)}; build the packages into the image, "
            f"or set option.install_requirements=true"
        )
    target = scratch / "packages"
    with (scratch / "packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the copies of the model share the folder
        if not target.is_dir():
            report(f"installing requirements.txt: {'; '.join(missing)}")
            _install(file, scratch / "packages.partial", wheels if wheels.is_dir() else None)
            (scratch / "packages.partial").rename(target)
    return target


def missing_of(text: str) -> list[str]:
    """The lines that this interpreter's packages do not satisfy, each with what is there instead."""
    missing = []
    for raw in text.splitlines():
        line = raw.partition(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            missing.append(f"{line!r} can only be judged by pip")
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(f"{line} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            missing.append(f"{line}, but {version} is installed")
    return missing


def _install(file: Path, target: Path, wheels: Path | None) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--target", str(target), "--requirement", str(file)]
    if wheels is not None:
        command += ["--no-index", "--find-links", str(wheels)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=file.parent, check=False)
    if done.returncode != 0 or not target.is_dir():
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise LoadError(f"pip cannot install requirements.txt: {' '.join(lines) or f'exit code {done.returncode}'}")
