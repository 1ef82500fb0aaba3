"""engine=neuronx compiled ahead: what was made is loaded, and refused for another key, machine or model."""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from heavylift_runtime.engines import neuronx
from heavylift_runtime.engines.neuronx_artifact import KEY, MANIFEST
from heavylift_runtime.errors import LoadError
from heavylift_runtime.options import Options
from tests.neuron_sdk import with_recorded_sdk
from tests.served import serving
from tests.test_neuronx import PROMPTS, checkpoint, expected, load, options, sdk, tokens_of  # noqa: F401 - sdk: each test runs in it


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "library"), [("gpt2", "tnx"), ("gptj", "tnx"), ("llama", "tnx"), ("llama", "nxdi")])
def test_what_was_compiled_ahead_is_loaded_and_nothing_is_compiled_again(
    kind: str, library: str, tmp_path: Path
) -> None:
    folder, made = checkpoint(tmp_path / "model", kind), tmp_path / "made"
    asked = options(model_loader=library, n_positions="64")

    neuronx.compile(asked, folder, made)
    compilations = importlib.import_module("recorded_cores").compilations
    ahead = len(compilations)
    os.environ.pop("NEURON_COMPILE_CACHE_URL", None)
    engine = load(folder, with_compiled(asked, made))

    assert ahead > 0 and len(compilations) == ahead
    assert tokens_of(engine, PROMPTS) == expected(folder, PROMPTS)
    key, manifest = json.loads((made / KEY).read_text()), json.loads((made / MANIFEST).read_text())
    assert key["instance"] == "inf2" and key["sdk"].endswith("neuronx-cc 2.20.recorded")
    assert len(manifest["files"]) > 1 and manifest["format"] == "heavylift.manifest/1"


def with_compiled(asked: Options, made: Path) -> Options:
    return replace(asked, properties={**asked.properties, "compiled_graph_path": str(made)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"batch_size": 4}, "rows: it was made for 3, and 4 is asked"),
        ({"tensor_parallel_degree": 2}, "degree: it was made for 1, and 2 is asked"),
        ({"dtype": "bf16"}, 'dtype: it was made for "fp32", and "bf16" is asked'),
        ({"properties": {"n_positions": "32"}}, r"lengths: it was made for \[64\], and \[32\] is asked"),
        ({"quantize": "static_int8"}, 'quantize: it was made for "none", and "static_int8" is asked'),
    ],
)
def test_an_artifact_for_another_key_is_refused_by_the_field_that_differs(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    asked, folder = options(n_positions="64"), checkpoint(tmp_path / "model")
    neuronx.compile(asked, folder, tmp_path / "made")

    with pytest.raises(LoadError, match=sentence):
        load(folder, with_compiled(replace(asked, **change), tmp_path / "made"))


def test_another_machine_and_another_model_are_refused_too(tmp_path: Path) -> None:
    asked, folder, made = options(n_positions="64"), checkpoint(tmp_path / "model"), tmp_path / "made"
    neuronx.compile(asked, folder, made)
    other = checkpoint(tmp_path / "other", seed=5)

    with pytest.raises(LoadError, match="model: it was made for"):
        load(other, with_compiled(asked, made))
    os.environ["NEURON_PLATFORM_TARGET_OVERRIDE"] = "trn2"
    with pytest.raises(LoadError, match='instance: it was made for "inf2", and "trn2" is asked'):
        load(folder, with_compiled(asked, made))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda made: (made / KEY).unlink(), "has no neuron.json; compile it first"),
        (lambda made: (made / KEY).write_text("{"), "neuron.json is not as it was compiled"),
        (lambda made: (made / MANIFEST).unlink(), "is not complete: it has no manifest.json"),
        (lambda made: (made / MANIFEST).write_text("{"), "is not a manifest"),
        (lambda made: next((made / "compiled").iterdir()).write_text("other"), "is not as it was compiled"),
        (lambda made: next((made / "compiled").iterdir()).unlink(), "is not as it was compiled"),
    ],
)
def test_a_damaged_artifact_is_refused(damage: Any, sentence: str, tmp_path: Path) -> None:
    asked, folder, made = options(n_positions="64"), checkpoint(tmp_path / "model"), tmp_path / "made"
    neuronx.compile(asked, folder, made)

    damage(made)

    with pytest.raises(LoadError, match=sentence):
        load(folder, with_compiled(asked, made))


def test_nothing_is_compiled_into_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "notes.txt").touch()

    with pytest.raises(LoadError, match="is not empty: give a new folder"):
        neuronx.compile(options(), checkpoint(tmp_path / "model"), tmp_path / "made")


@pytest.mark.slow
def test_the_server_serves_what_was_compiled_ahead(tmp_path: Path) -> None:
    given, made = checkpoint(tmp_path / "given", "llama"), tmp_path / "made"
    asked = {
        "OPTION_ENGINE": "Python", "OPTION_N_POSITIONS": "64", "SERVING_BATCH_SIZE": "2",
        "OPTION_ENTRYPOINT": "djl_python.transformers_neuronx",
    }  # fmt: skip
    neuronx.compile(Options.load(given, asked), given, made)
    environ = with_recorded_sdk({"NEURON_PLATFORM_TARGET_OVERRIDE": "inf2", **asked})

    with serving(given, environ | {"OPTION_COMPILED_GRAPH_PATH": str(made)}) as served:
        answer = served.ask({"inputs": "2468", "parameters": {"max_new_tokens": 5}})
        refused = served.ask({"inputs": "2468", "parameters": {"max_new_tokens": 100}})
        told = httpx.get(f"{served.address}/ping").text
    assert answer.status_code == 200 and answer.json()
    assert refused.status_code == 400 and "compiled for 64 together" in refused.text
    assert "loading what was compiled ahead" in told
