"""The example files: each is valid, locked, planned, and as the document of the model file says."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from heavylift.cli import main
from heavylift.errors import InputError
from heavylift.plan.lock import Lock, lock_path, read_fresh, unread
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec, environments
from heavylift.weights.published import published
from tests.conftest import ROOT
from tests.test_app import run

MODELS = ROOT / "models"
FILES = sorted(MODELS.glob("*.yaml"))
CONFIGS = dict.fromkeys(("flan-t5-xxl-script", "flan-t5-xxl-fastertransformer"), "flan-t5-xxl")  # one model
PARAMETERS = {  # as their pages on huggingface.co say
    "bloom-176b": 176_247_271_424,
    "flan-t5-xxl": 11_135_332_352,
    "flan-t5-xxl-fastertransformer": 11_135_332_352,
    "flan-t5-xxl-script": 11_135_332_352,
    "llama-3-1-8b": 8_030_261_248,
    "llama-3-1-70b": 70_553_706_496,
    "mixtral-8x7b": 46_702_792_704,
}


def config_of(file: Path) -> Path:
    return MODELS / "published" / f"{CONFIGS.get(file.stem, file.stem)}.json"


def test_every_model_of_the_mission_has_a_file() -> None:
    stems = {file.stem for file in FILES}

    assert {
        "bloom-176b", "flan-t5-xxl", "flan-t5-xxl-fastertransformer", "flan-t5-xxl-script", "flan-ul2", "gpt-j-6b",
        "gpt-neox-20b", "llama-3-1-70b", "llama-3-1-8b", "mixtral-8x7b", "opt-66b", "tiny-t5", "tiny-t5-script",
    } <= stems  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_of_models_is_valid_locked_and_planned_in_all_its_environments(file: Path) -> None:
    for env in (None, *environments(file)):
        spec = ModelSpec.from_yaml(file, env)

        plan = Plan.fit(spec, read_fresh(spec, file, env))

        assert plan.name in (file.stem, f"{file.stem}-{env}")


@pytest.mark.parametrize("file", [file for file in FILES if config_of(file).is_file()], ids=lambda file: file.stem)
def test_the_lock_of_a_model_that_is_elsewhere_follows_from_its_published_config(file: Path) -> None:
    spec, lock = ModelSpec.from_yaml(file), Lock.read(lock_path(file), "heavylift plan")

    now = published(spec, MODELS, config_of(file))

    again = f"run `heavylift plan models/{file.name} --config {config_of(file).relative_to(ROOT)}`"
    assert replace(lock, known=now.known) == now, again
    assert lock.model.weights.digest == unread(str(spec.model), spec.model.revision)
    assert lock.model.parameters == PARAMETERS.get(file.stem, lock.model.parameters)


@pytest.mark.slow
def test_engines_that_are_only_compared_with_are_never_chosen() -> None:
    spec = ModelSpec.from_yaml(MODELS / "llama-3-1-8b.yaml")
    lock = read_fresh(spec, MODELS / "llama-3-1-8b.yaml")

    wide, narrow = Plan.fit(spec, lock, wide=True), Plan.fit(spec, lock)

    assert (wide.engine, wide.instance) == (narrow.engine, narrow.instance)
    assert {each.engine for each in wide.alternatives} >= {wide.engine}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """models/ alone, in a checkout's shape."""
    shutil.copytree(MODELS, tmp_path / "models")
    for name in ("app.py", "cdk.json"):
        (tmp_path / name).touch()
    return tmp_path / "models"


def test_a_plan_is_made_from_a_config_alone_and_says_so_in_its_lock(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, config = checkout / "flan-ul2.yaml", checkout / "published" / "flan-ul2.json"
    before = (checkout / "flan-ul2.lock").read_text()
    (checkout / "flan-ul2.lock").unlink()

    code = main(["plan", str(file), "--config", str(config)])

    assert code == 0 and "19,591,209,984 parameters" in capsys.readouterr().out
    assert (checkout / "flan-ul2.lock").read_text() == before
    assert json.loads(before)["model"]["weights"]["files"] == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "must be a JSON object, as a model's config.json"),
        ("{", "is not JSON"),
        ('{"model_type": "t5"}', "must say its 'dtype' (or 'torch_dtype'), in which"),
    ],
)
def test_a_config_that_tells_nothing_is_refused(
    checkout: Path, capsys: pytest.CaptureFixture[str], text: str, fault: str
) -> None:
    (checkout / "c.json").write_text(text)

    code = main(["plan", str(checkout / "flan-ul2.yaml"), "--config", str(checkout / "c.json")])

    assert (code, fault in capsys.readouterr().err) == (2, True)


def test_an_unread_lock_that_was_edited_is_refused(checkout: Path) -> None:
    path = checkout / "flan-ul2.lock"
    path.write_text(path.read_text().replace("s3://my-models/google/flan-ul2/", "s3://my-models/other/"))

    with pytest.raises(InputError, match="was edited"):
        Lock.read(path, "heavylift plan")


def blocks() -> list[str]:
    """The YAML blocks of the document that are whole files."""
    text = (ROOT / "docs" / "model-file.md").read_text()
    return [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "\nname: " in f"\n{block}"]


@pytest.mark.parametrize("number", range(3))
def test_the_document_s_files_are_valid(number: int, tmp_path: Path) -> None:
    document = yaml.safe_load(blocks()[number])
    file = tmp_path / f"{document['name']}.yaml"
    file.write_text(blocks()[number])
    (tmp_path / "base.yaml").write_text("model: {path: m}\n")

    specs = [ModelSpec.from_yaml(file, env) for env in (None, *environments(file))]

    assert len(specs) == 1 + len(document.get("environments", {}))


def test_the_document_tells_every_field() -> None:
    text = "".join(blocks())

    missing = [name for name in fields_of(ModelSpec.model_json_schema()) if re.search(rf"\b{name}\b", text) is None]

    assert not missing


def fields_of(schema: dict[str, Any]) -> set[str]:
    """The names of all fields, at any depth."""
    return {name for kind in (schema, *schema["$defs"].values()) for name in kind.get("properties", {})}


ENVIRONMENTS = """
environments:
  prod:
    name: tiny-t5-prod
    initial_instance_count: 3
    tags: {stage: prod}
"""


def test_an_environment_has_a_plan_and_a_lock_of_its_own(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = checkout / "tiny-t5.yaml"
    file.write_text(file.read_text() + ENVIRONMENTS)
    before = (checkout / "tiny-t5.lock").read_text()

    codes = [main(["validate", str(file)]), main(["plan", str(file), "--env", "prod"])]

    told = capsys.readouterr().out
    assert codes == [0, 0] and f"{file} is valid, also in prod" in told and "tiny-t5-prod: " in told
    assert "3 · ml.c6i.xlarge" in told
    assert (checkout / "tiny-t5.prod.lock").is_file() and (checkout / "tiny-t5.lock").read_text() == before


def test_an_environment_without_its_lock_names_the_command_that_writes_it(checkout: Path) -> None:
    file = checkout / "tiny-t5.yaml"
    file.write_text(file.read_text() + ENVIRONMENTS)

    with pytest.raises(
        InputError, match=r"tiny-t5\.prod\.lock is missing; write it with `heavylift plan .* --env prod`"
    ):
        read_fresh(ModelSpec.from_yaml(file, "prod"), file, "prod")


@pytest.mark.slow
def test_the_app_synthesizes_the_files_that_have_the_environment(tmp_path: Path) -> None:
    done = run(tmp_path, env="gpu")

    assert done.returncode == 0, done.stderr
    made = {file.name.removesuffix(".template.json") for file in tmp_path.glob("*.template.json")}
    assert made == {"heavylift-foundation", "heavylift-llama-3-1-8b-gpu"}
    template = json.loads((tmp_path / "heavylift-llama-3-1-8b-gpu.template.json").read_text())
    configs = [each for each in template["Resources"].values() if each["Type"] == "AWS::SageMaker::EndpointConfig"]
    assert [each["Properties"]["ProductionVariants"][0]["InstanceType"] for each in configs] == ["ml.g5.2xlarge"]
