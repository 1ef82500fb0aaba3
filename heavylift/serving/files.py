"""What lies under `config/<digest>/`: serving.properties, templates, the user's code. Not its manifest: push.py's."""

from __future__ import annotations

from pathlib import Path

from heavylift.errors import InputError
from heavylift.plan.digest import File, digest
from heavylift.plan.plan import Plan
from heavylift.serving.code import read_code
from heavylift.serving.prompt import made_prompt, read_prompt
from heavylift.serving.render import NAME, render
from heavylift.spec.container import PromptSpec


def config_files(plan: Plan, spec_dir: Path) -> dict[str, bytes]:
    """Path → content. Raises InputError when the code folder is not what the plan's lock describes."""
    code = {} if plan.model.code is None else read_code(spec_dir / plan.model.code)
    prompt = None if plan.model.prompt is None else PromptSpec.model_validate(plan.model.prompt)
    files = {NAME: render(plan).encode(), **code, **made_prompt(prompt), **read_prompt(prompt, spec_dir)}
    if digest(File.of(path, content) for path, content in files.items()) != plan.config_digest:
        raise InputError(
            f"{f'the code folder {spec_dir / plan.model.code}' if plan.model.code else 'a template of prompt'} changed "
            "since the lock was written; "
            f"write it anew with `heavylift plan {spec_dir / plan.name}.yaml`"
        )
    return files
