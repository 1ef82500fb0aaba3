"""What lies under `config/<digest>/`: serving.properties and the user's code. Not the manifest: the push writes it."""

from __future__ import annotations

from pathlib import Path

from heavylift.errors import InputError
from heavylift.plan.digest import File, digest
from heavylift.plan.plan import Plan
from heavylift.serving.code import read_code
from heavylift.serving.render import NAME, render


def config_files(plan: Plan, spec_dir: Path) -> dict[str, bytes]:
    """Path → content. Raises InputError when the code folder is not what the plan's lock describes."""
    code = {} if plan.model.code is None else read_code(spec_dir / plan.model.code)
    files = {NAME: render(plan).encode(), **code}
    if digest(File.of(path, content) for path, content in files.items()) != plan.config_digest:
        raise InputError(
            f"the code folder {spec_dir / (plan.model.code or '')} changed since the lock was written; "
            f"write it anew with `heavylift plan {spec_dir / plan.name}.yaml`"
        )
    return files
