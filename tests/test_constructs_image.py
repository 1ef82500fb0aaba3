"""RuntimeImage: where the image may come from, and what may change its hash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heavylift.errors import InputError
from heavylift_cdk import RuntimeImage
from heavylift_cdk.runtime_image import Hardware
from tests.cdk import App, AssetStaging, Stack, Synthesized, ecr, plan, synthesize
from tests.conftest import ROOT

DLC = "763104351884.dkr.ecr.eu-west-1.amazonaws.com/djl-inference:0.33.0-lmi15.0.0-cu128"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with what an image is made of, and with what must not count."""
    for name in (
        "container/Dockerfile.cpu",
        "container/Dockerfile.gpu",
        "container/serve",
        "runtime/heavylift_runtime/options.py",
        "runtime/heavylift_runtime/__pycache__/options.pyc",
        "runtime/.DS_Store",
        "pyproject.toml",
        "stacks/serving.py",
        ".venv/lib/torch.py",
    ):
        file = tmp_path / "checkout" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"first {name}")
    return tmp_path / "checkout"


def image_hash(checkout: Path, hardware: Hardware = "cpu") -> str:
    AssetStaging.clear_asset_hash_cache()  # it remembers a folder by its path for as long as Node lives
    app = App(outdir=str(checkout.parent / "assembly"))
    RuntimeImage.from_runtime(hardware, checkout=checkout).bind(Stack(app, "stack"))
    manifest = json.loads((Path(app.synth().directory) / "stack.assets.json").read_text())
    (only,) = manifest["dockerImages"]
    assert isinstance(only, str)
    return only


@pytest.mark.slow
@pytest.mark.parametrize(
    "edited",
    [
        "pyproject.toml",
        "stacks/serving.py",
        ".venv/lib/torch.py",
        "container/Dockerfile.gpu",
        "runtime/heavylift_runtime/__pycache__/options.pyc",
        "runtime/.DS_Store",
        "models/new.yaml",
    ],
)
def test_an_edit_elsewhere_leaves_the_image_alone(checkout: Path, edited: str) -> None:
    before = image_hash(checkout)

    (checkout / edited).parent.mkdir(exist_ok=True)
    (checkout / edited).write_text("second")

    assert image_hash(checkout) == before


@pytest.mark.parametrize(
    "edited",
    ["container/Dockerfile.cpu", "container/serve", "runtime/heavylift_runtime/options.py", "runtime/new/new.py"],
)
def test_an_edit_of_the_runtime_makes_another_image(checkout: Path, edited: str) -> None:
    before = image_hash(checkout)

    (checkout / edited).parent.mkdir(exist_ok=True)
    (checkout / edited).write_text("second")

    assert image_hash(checkout) != before


def test_each_hardware_has_its_own_image(checkout: Path) -> None:
    assert image_hash(checkout, "cpu") != image_hash(checkout, "gpu")


@pytest.mark.parametrize(
    ("hardware", "engine", "asked"),
    [
        ("gpu", "vllm", {"VLLM": "true"}),
        ("gpu", "deepspeed", {"DEEPSPEED": "true"}),
        ("gpu", "diffusers", {"DIFFUSERS": "true"}),
        ("gpu", "accelerate", None),
        ("gpu", None, None),
        ("cpu", "vllm", None),
    ],
)
def test_the_image_for_gpus_brings_the_models_engine(
    tmp_path: Path, hardware: Hardware, engine: str | None, asked: dict[str, str] | None
) -> None:
    app = App(outdir=str(tmp_path))
    RuntimeImage.from_runtime(hardware, engine=engine).bind(Stack(app, "stack"))
    manifest = json.loads((Path(app.synth().directory) / "stack.assets.json").read_text())

    ((_, asset),) = manifest["dockerImages"].items()
    dockerfile = (ROOT / "container" / f"Dockerfile.{hardware}").read_text()
    assert asset["source"].get("dockerBuildArgs") == asked
    assert all(f"\nARG {name}=false\n" in dockerfile for name in asked or {})


@pytest.mark.parametrize("hardware", ["cpu", "gpu", "neuron"])
def test_the_committed_dockerfiles_get_every_file_that_they_copy(tmp_path: Path, hardware: Hardware) -> None:
    AssetStaging.clear_asset_hash_cache()
    app = App(outdir=str(tmp_path))
    RuntimeImage.from_runtime(hardware).bind(Stack(app, "stack"))
    manifest = json.loads((Path(app.synth().directory) / "stack.assets.json").read_text())

    ((_, asset),) = manifest["dockerImages"].items()
    context = tmp_path / asset["source"]["directory"]
    dockerfile = context / asset["source"]["dockerFile"]
    copied = [line.split()[1] for line in dockerfile.read_text().splitlines() if line.startswith("COPY ")]
    copied = [name for name in copied if not name.startswith("--from=")]  # of another stage of the build
    assert copied
    assert [name for name in copied if not (context / name).exists()] == []
    assert asset["source"]["platform"] == "linux/amd64"


def test_only_the_two_folders_are_handed_to_docker(checkout: Path) -> None:
    image = image_hash(checkout)

    context = checkout.parent / "assembly" / f"asset.{image}"
    files = {str(file.relative_to(context)) for file in context.rglob("*") if file.is_file()}
    assert files == {"container/Dockerfile.cpu", "container/serve", "runtime/heavylift_runtime/options.py"}


def test_a_missing_dockerfile_is_a_fault_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no 'container/Dockerfile.neuron' in .*--context image="):
        RuntimeImage.from_runtime("neuron", checkout=tmp_path)


@pytest.fixture(scope="module")
def with_dlc(tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    return synthesize(tmp_path_factory.mktemp("assembly"), plan(), image=RuntimeImage.from_uri(DLC))


def test_an_image_of_another_account_may_be_pulled_from_its_repository_alone(with_dlc: Synthesized) -> None:
    statements = with_dlc.statements("heavylift-tiny-t5")

    (pull,) = [statement for statement in statements if "ecr:BatchGetImage" in statement["Action"]]
    assert pull["Resource"]["Fn::Join"][1][-1] == ":ecr:eu-west-1:763104351884:repository/djl-inference"
    assert with_dlc.only("heavylift-tiny-t5", "AWS::SageMaker::Model")["PrimaryContainer"]["Image"] == DLC


def test_an_image_of_a_repository_is_named_by_its_tag() -> None:
    stack = Stack(App(), "stack")
    repository = ecr.Repository.from_repository_name(stack, "Repository", "heavylift/runtime")

    bound = RuntimeImage.from_ecr(repository, "v7").bind(stack)

    assert str(stack.resolve(bound.uri)["Fn::Join"][1][-1]).endswith("/heavylift/runtime:v7")
    assert bound.repository_arn == repository.repository_arn


@pytest.mark.parametrize(
    "uri",
    [
        "nginx:latest",
        "docker.io/library/nginx:latest",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/heavylift",
        "12345.dkr.ecr.eu-west-1.amazonaws.com/heavylift:v1",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/heavylift:v1 ",
        f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/{'long/' * 50}x:v1",
    ],
)
def test_a_uri_that_sagemaker_cannot_pull_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="must be in Amazon ECR"):
        RuntimeImage.from_uri(uri)
