"""The CDK app: which stacks it makes, that the same files give the same bytes, and what it says of bad input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from jsii import _type_checking

from heavylift.deploy.planned_model import PlannedModel, model_files, pushed_and_unbuilt, read
from heavylift.errors import InputError
from heavylift.spec import ModelSpec
from stacks.models import Models
from stacks.node import SETTINGS, options
from tests.cdk import FLAGS, ROOT, App, Stack

TINY = ROOT / "models" / "tiny-t5.yaml"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/heavylift/runtime:v1"
IMPORTS = """
import importlib, pkgutil
import aws_cdk, heavylift_cdk, stacks
from jsii._kernel.providers.process import _NodeProcess
said, send = [], _NodeProcess.send
_NodeProcess.send = lambda self, request, *rest: said.append(f"{name}: {request}") or send(self, request, *rest)
for package in (heavylift_cdk, stacks):
    for name in [each.name for each in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]:
        importlib.import_module(name)
import heavylift.deploy.planned_model
print(said)
"""


def run(assembly: Path, cwd: Path = ROOT, **context: str) -> subprocess.CompletedProcess[str]:
    """Run app.py as the CDK CLI does: context and folder come by environment."""
    environ = {
        **os.environ,
        "CDK_OUTDIR": str(assembly),
        "CDK_CONTEXT_JSON": json.dumps({**FLAGS, "image": IMAGE, **context}),
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",  # nobody answers: synthesis asks nobody
    }
    return subprocess.run(
        [sys.executable, str(ROOT / "app.py")], cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first = run(tmp_path / "first", model=str(TINY))
    second = run(tmp_path / "second", cwd=tmp_path, model=os.path.relpath(TINY, tmp_path))

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    made = files(tmp_path / "first")
    assert made == files(tmp_path / "second")
    assert {"heavylift-foundation.template.json", "heavylift-tiny-t5.template.json"} <= set(made)
    assert str(ROOT).encode() not in made["heavylift-tiny-t5.template.json"]


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [None, "false"])
def test_the_cdk_looks_at_the_templates_unless_it_is_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str | None
) -> None:
    monkeypatch.delenv("CDK_VALIDATION", raising=False)
    if wanted is not None:
        monkeypatch.setenv("CDK_VALIDATION", wanted)

    done = run(tmp_path, model=str(TINY))

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "validation-report.json").exists() == (wanted is None)


@pytest.mark.slow
def test_no_import_of_ours_speaks_to_node_which_may_be_busy_meanwhile() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.slow
def test_bad_input_ends_with_its_sentence_and_no_traceback(tmp_path: Path) -> None:
    shutil.copy(TINY, tmp_path / "typo.yaml")
    with open(tmp_path / "typo.yaml", "a") as file:
        file.write("instance_typ: ml.c6i.xlarge\n")

    done = run(tmp_path / "assembly", model=str(tmp_path / "typo.yaml"))

    assert done.returncode == 2
    assert "instance_typ" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "assembly" / "manifest.json").exists()


def test_every_file_in_models_is_taken_unless_one_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    assert model_files(ROOT, None) == sorted(Path("models").glob("*.yaml"))
    assert model_files(ROOT, "models/tiny-t5.yaml") == [Path("models/tiny-t5.yaml")]


def test_of_all_files_those_with_the_environment_are_taken_and_a_chosen_one_must_have_it() -> None:
    assert read(TINY, None, "nobody-has-this", root=ROOT, here=False) is None

    with pytest.raises(InputError, match="nobody-has-this"):
        read(TINY, str(TINY), "nobody-has-this", root=ROOT, here=False)


def test_the_faults_of_all_files_are_told_those_of_reading_first(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: broken\n  model: [\n")
    files = (TINY, TINY, broken)  # the second has the first one's name

    faults = Models(App(context={"image": IMAGE})).add_all(
        partial(read, file, None, None, root=ROOT, here=False) for file in files
    )

    assert len(faults) == 2
    assert "broken.yaml:2" in faults[0] and "not YAML" in faults[0]
    assert "'name' must be this file's alone" in faults[1]


@pytest.mark.parametrize("files", [[], [TINY]])
def test_without_any_model_the_foundation_is_made_alone(files: list[Path]) -> None:
    cdk_app = App(context={"image": IMAGE})

    faults = Models(cdk_app).add_all(
        partial(read, file, None, "nobody-has-this", root=ROOT, here=False) for file in files
    )

    assert faults == []
    assert [each.node.id for each in cdk_app.node.children] == ["heavylift-foundation"]


def test_the_look_at_arguments_that_the_app_leaves_out_is_the_one_that_jsii_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(_type_checking, "_resolved_check", lambda **each: looked.append(each["argname"]))

    Stack(App(), "heavylift")

    assert "argument id" in looked


@pytest.mark.slow
def test_nodes_settings_are_found_in_any_folder_beside_the_users_own_and_node_says_nothing_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'a "quoted" \\ folder'
    folder.mkdir()
    shutil.copy(SETTINGS, folder)
    monkeypatch.setattr("stacks.node.SETTINGS", folder / SETTINGS.name)
    environ = {**os.environ, "NODE_OPTIONS": options("--max-semi-space-size=32")}
    ask = "console.log(process.memoryUsage().rss > 0, Object.keys(require.cache))"

    done = subprocess.run(
        [os.environ["JSII_NODE"], "-e", ask], env=environ, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("true") and SETTINGS.name in done.stdout


def test_a_model_that_vllm_serves_gets_an_image_with_vllm(tmp_path: Path) -> None:
    cdk_app = App(outdir=str(tmp_path))
    planned = PlannedModel.read(ROOT / "models" / "opt-66b.yaml", root=ROOT)
    stack = Models(cdk_app).add(planned)
    manifest = json.loads((Path(cdk_app.synth().directory) / f"{stack.artifact_id}.assets.json").read_text())

    assert planned.plan.engine == "vllm"
    assert [each["source"]["dockerBuildArgs"] for each in manifest["dockerImages"].values()] == [{"VLLM": "true"}]


@pytest.mark.parametrize(
    ("line", "options", "asked"),
    [
        ("from diffusers.utils import load_image", "", {"DIFFUSERS": "true"}),
        ("from djl_python.stable_diffusion import handle", "", {"DIFFUSERS": "true"}),
        ("from djl_python import stable_diffusion", "", {"DIFFUSERS": "true"}),
        ("import diffusers", "options: {install_requirements: true}\n", None),
        ("import diffusers_of_mine  # diffusers", "", None),
        ("import diffusers if", "", None),
    ],
)
def test_a_script_that_imports_diffusers_gets_an_image_with_it(
    tmp_path: Path, line: str, options: str, asked: dict[str, str] | None
) -> None:
    name = "flan-t5-xxl-script"
    shutil.copytree(ROOT / "models" / name, tmp_path / name)
    (tmp_path / name / "pictures.py").write_text(f"def draw():\n    {line}\n")
    (tmp_path / f"{name}.yaml").write_text((ROOT / "models" / f"{name}.yaml").read_text() + options)
    shutil.copy(ROOT / "models" / f"{name}.lock", tmp_path)
    cdk_app = App(outdir=str(tmp_path / "out"))
    stack = Models(cdk_app).add(PlannedModel.read(tmp_path / f"{name}.yaml", root=tmp_path))
    manifest = json.loads((Path(cdk_app.synth().directory) / f"{stack.artifact_id}.assets.json").read_text())

    assert [each["source"].get("dockerBuildArgs") for each in manifest["dockerImages"].values()] == [asked]


@pytest.mark.parametrize(("context", "warns"), [({}, True), ({"image": IMAGE}, False), ({"here": "yes"}, False)])
def test_an_engine_that_our_image_for_processors_does_not_have_is_warned_of(
    context: dict[str, str], warns: bool
) -> None:
    from aws_cdk.assertions import Annotations, Match

    stack = Models(App(context=context)).add(PlannedModel.read(ROOT / "models" / "tiny-llama-vllm.yaml", root=ROOT))

    sentence = Match.string_like_regexp("Heavylift's image for processors has no vllm.*")
    assert len(Annotations.from_stack(stack).find_warning("*", sentence)) == warns


def test_two_files_with_one_name_are_refused() -> None:
    models, tiny = Models(App(context={"image": IMAGE})), PlannedModel.read(TINY, root=ROOT)
    models.add(tiny)

    with pytest.raises(InputError, match=r"'name' must be this file's alone.*got tiny-t5"):
        models.add(tiny)


def test_each_account_and_region_has_one_foundation_and_a_model_lives_beside_its_own(tmp_path: Path) -> None:
    cdk_app, places = App(context={"image": IMAGE}), {}
    models = Models(cdk_app)
    shutil.copytree(TINY.with_suffix(""), tmp_path / "tiny-t5")
    for name, where in {
        "a": "region: eu-west-1\naccount: '111111111111'\n",
        "b": "region: eu-west-1\naccount: '111111111111'\n",
        "c": "region: us-west-2\naccount: '111111111111'\n",
        "d": "",
    }.items():
        text = TINY.read_text().replace("name: tiny-t5", f"name: {name}", 1)
        (tmp_path / f"{name}.yaml").write_text(text + where)
        (tmp_path / f"{name}.lock").write_bytes(TINY.with_suffix(".lock").read_bytes())
        models.add(PlannedModel.read(tmp_path / f"{name}.yaml", root=ROOT))
        made = cdk_app.node.find_child(f"heavylift-{name}")
        places[name] = (made.region, made.account)

    foundations = {each.node.id: each.stack_name for each in cdk_app.node.children if "foundation" in each.node.id}
    assert foundations == dict.fromkeys(
        [
            "heavylift-foundation-111111111111-eu-west-1",
            "heavylift-foundation-111111111111-us-west-2",
            "heavylift-foundation",
        ],
        "heavylift-foundation",
    )
    assert places["a"] == places["b"] == ("eu-west-1", "111111111111")
    assert places["c"] == ("us-west-2", "111111111111")
    assert places["d"][0].startswith("${Token")


def test_an_image_that_sagemaker_cannot_pull_is_refused() -> None:
    models = Models(App(context={"image": "nginx:latest"}))

    with pytest.raises(InputError, match="must be in Amazon ECR"):
        models.add(PlannedModel.read(TINY, root=ROOT))


@pytest.mark.slow
def test_a_lock_made_with_older_facts_warns_and_is_synthesized_all_the_same(tmp_path: Path) -> None:
    shutil.copy(TINY, tmp_path)
    shutil.copytree(ROOT / "models" / "tiny-t5", tmp_path / "tiny-t5")
    lock = json.loads(TINY.with_suffix(".lock").read_text())
    lock["known"]["dates"]["prices"] = "2025-01-01"
    (tmp_path / "tiny-t5.lock").write_text(json.dumps(lock))

    done = run(tmp_path / "assembly", model=str(tmp_path / "tiny-t5.yaml"))

    assert done.returncode == 0, done.stderr
    assert any(b"planned with older facts: prices of" in text for text in files(tmp_path / "assembly").values())


def test_the_embedded_aws_has_no_codebuild_so_weights_are_pushed_and_no_image_is_built() -> None:
    given = {"name": "x", "model": {"id": "a/b", "revision": "0" * 40}, "staging": {"by": "job"}}

    built = pushed_and_unbuilt(ModelSpec.model_validate({**given, "image": {"build": "codebuild"}}))
    named = pushed_and_unbuilt(ModelSpec.model_validate({**given, "image": {"uri": IMAGE}}))

    assert (built.staging.by, built.image) == ("push", None)
    assert named.image is not None and named.image.uri == IMAGE
