"""The table of engines: which one serves a model, and a sentence for those that this version does not have."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from heavylift_runtime.engines.registry import ENGINES, capabilities, engine_for, engine_of
from heavylift_runtime.errors import OptionsError


def test_every_name_of_the_model_file_has_a_row_and_can_run() -> None:
    names = ["native", "script", "fastertransformer", "accelerate", "neuronx", "vllm", "deepspeed"]

    assert list(ENGINES) == names
    assert [name for name, row in ENGINES.items() if row.available] == names


def test_an_engine_that_a_version_cannot_run_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(ENGINES["vllm"], why_not="this version has no such engine")
    monkeypatch.setattr("heavylift_runtime.engines.registry.ENGINES", {**ENGINES, "vllm": row})

    with pytest.raises(OptionsError, match="engine 'vllm' is not available: this version has no such engine"):
        capabilities("vllm")


def test_a_misspelt_engine_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(OptionsError, match=r"unknown engine 'nativ': use auto, .*; did you mean 'native'"):
        capabilities("nativ")


def test_auto_on_t5_is_native_with_a_reason() -> None:
    assert engine_for("t5", "cpu")[0] == "native"
    assert engine_for("llama", "gpu")[0] == "vllm"
    assert "'t5' on cpu" in engine_for("t5", "cpu")[1]


def test_auto_never_chooses_deepspeed_which_was_never_run_on_a_gpu() -> None:
    with pytest.raises(
        OptionsError, match=r"no engine of this version serves model_type 't5' on gpu unless .*deepspeed"
    ):
        engine_for("t5", "gpu")


def test_auto_never_chooses_a_script_but_says_how_to_give_one() -> None:
    with pytest.raises(OptionsError) as caught:
        engine_for("bert", "gpu")

    assert (
        "no engine of this version serves model_type 'bert' on gpu unless 'engine:' names it (accelerate); give 'code:'"
        in str(caught.value)
    )
    assert "'engine: script'" in str(caught.value)


@pytest.mark.parametrize("name", ENGINES)
def test_what_a_row_writes_into_serving_properties_is_read_as_that_row(name: str) -> None:
    row = ENGINES[name]

    assert engine_of(row.engine_property, row.entry_point) is row


def test_a_script_with_another_file_name_is_a_script() -> None:
    assert engine_of("python", "serve.py").name == "script"
    assert engine_of("Python", None).name == "script"


def test_mpi_is_another_name_for_python() -> None:
    assert engine_of("MPI", "model.py").name == "script"


def test_a_script_s_file_decides_whatever_engine_says() -> None:
    assert engine_of("DeepSpeed", "model.py").name == "script"


def test_an_engine_says_what_to_install() -> None:
    row = replace(ENGINES["native"], packages=(("json", "json"), ("no_such_module", "no-such-package==1.0")))

    assert row.missing() == "engine native needs no-such-package==1.0: pip install no-such-package==1.0"
    assert ENGINES["native"].missing() is None


def test_an_unknown_handler_of_lmi_is_refused() -> None:
    with pytest.raises(OptionsError, match=r"unknown option\.entryPoint=djl_python\.tea"):
        engine_of("Python", "djl_python.tea")


def test_the_core_can_import_the_table_and_the_options_without_torch() -> None:
    program = (
        "import sys, heavylift_runtime.options, heavylift_runtime.server.app\n"
        "assert not {'torch', 'transformers', 'boto3'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
