"""Every example file in all its environments, as app.py synthesizes it, with cdk-nag. Not a test.

One assembly for all, made once in a run of the tests: an environment's stack has another name than the file's own.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from heavylift.deploy.planned_model import PlannedModel
from heavylift.spec import ModelSpec, environments
from stacks.models import Models
from tests.cdk import FLAGS, ROOT, App, Synthesized
from tests.judges import add_nag

FILES = sorted((ROOT / "models").glob("*.yaml"))


@cache
def examples() -> dict[str, tuple[Path, str | None]]:
    """File and environment by the stack's name."""
    found: dict[str, tuple[Path, str | None]] = {}
    for file in FILES:
        for env in (None, *environments(file)):
            found[f"heavylift-{ModelSpec.from_yaml(file, env).name}"] = (file, env)
    return found


def synthesize_examples(folder: Path) -> Synthesized:
    """The assembly, with the foundation."""
    cdk_app = App(outdir=str(folder), context=FLAGS)
    add_nag(cdk_app)
    models = Models(cdk_app)
    for file, env in examples().values():
        models.add(PlannedModel.read(file, env, root=ROOT))
    cdk_app.synth()
    return Synthesized(folder)
