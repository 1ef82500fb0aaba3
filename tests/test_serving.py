"""serving.properties and the code folder: what the container gets is what the plan says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.errors import InputError
from heavylift.plan.digest import File, digest
from heavylift.plan.lock import read_fresh
from heavylift.plan.plan import Plan
from heavylift.serving import config_files, render
from heavylift.serving.code import read_code
from heavylift.serving.render import render_properties
from heavylift.spec import ModelSpec
from heavylift.weights import inspect
from heavylift_runtime.errors import OptionsError
from heavylift_runtime.properties import read_properties

GOLDEN = Path(__file__).parent / "golden"


def planned(file: Path) -> Plan:
    spec = ModelSpec.from_yaml(file)
    return Plan.fit(spec, read_fresh(spec, file))


@pytest.mark.parametrize("name", ["tiny-t5", "tiny-t5-script", "tiny-t5-too-slow", "tiny-llama", "tiny-llama-vllm"])
def test_each_model_file_renders_its_golden_properties(tiny_t5: Path, name: str) -> None:
    text = render(planned(tiny_t5.parent / f"{name}.yaml"))

    assert text == (GOLDEN / f"{name}.serving.properties").read_text()


def test_the_config_digest_is_that_of_the_files(tiny_t5: Path) -> None:
    for name in ("tiny-t5", "tiny-t5-script"):
        plan = planned(tiny_t5.parent / f"{name}.yaml")

        files = config_files(plan, tiny_t5.parent)

        assert digest(File.of(path, content) for path, content in files.items()) == plan.config_digest
        assert ("model.py" in files) == (name == "tiny-t5-script")


KEYS = st.from_regex(r"[A-Za-z][A-Za-z0-9_.]{0,20}", fullmatch=True)


@given(st.dictionaries(KEYS, st.text(min_size=1, max_size=30)))
def test_whatever_is_rendered_reads_back_the_same_or_is_refused(properties: dict[str, str]) -> None:
    try:
        text = render_properties(properties.items())
    except InputError as error:
        assert all("must be printable text in one line" in fault for fault in error.faults)
        return

    assert read_properties(text) == properties


@pytest.mark.parametrize("value", ["", " a", "a\nengine=MPI", "a\r\nb", "a\x85b", "a\u2028b", "a\\", "\x00"])
def test_a_value_cannot_smuggle_a_key(value: str) -> None:
    with pytest.raises(InputError, match="must be printable text in one line"):
        render_properties([("engine", "native"), ("option.a", value)])


@pytest.mark.parametrize("key", ["", "a b", "a=b", "#a", "1a", "a\nb", "ä"])
def test_a_key_is_letters_digits_and_dots(key: str) -> None:
    with pytest.raises(InputError, match="is not a key"):
        render_properties([(key, "v")])


def test_the_reader_is_the_runtimes() -> None:
    with pytest.raises(OptionsError):
        read_properties("alone")


def code(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "__pycache__").mkdir()
    (folder / "model.py").write_text("def handle(inputs): ...\n")
    (folder / "sub" / "words.txt").write_text("a\n")
    (folder / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"\0")
    return folder


def test_a_code_folder_is_read_whole_but_for_caches(tmp_path: Path) -> None:
    assert list(read_code(code(tmp_path / "c"))) == ["model.py", "sub/words.txt"]


def test_links_and_reserved_names_in_a_code_folder_are_refused(tmp_path: Path) -> None:
    folder = code(tmp_path / "c")
    (tmp_path / "secret").write_text("s")
    (folder / "out").symlink_to(tmp_path)
    (folder / "secret").symlink_to(tmp_path / "secret")
    (folder / "serving.properties").write_text("engine=MPI\n")
    (folder / "a\nb").write_text("")

    with pytest.raises(InputError) as caught:
        read_code(folder)

    reasons = ("must be named with", "is a link", "is a link", "Heavylift writes a file of that name itself")
    assert [reason in fault for reason, fault in zip(reasons, caught.value.faults, strict=True)] == [True] * 4


def test_a_code_folder_without_model_py_or_with_weights_is_refused(tmp_path: Path) -> None:
    folder = code(tmp_path / "c")
    (folder / "model.py").unlink()

    with pytest.raises(InputError, match=r"model\.py is missing: the script engine runs its handle"):
        read_code(folder)
    with pytest.raises(InputError, match="no code folder"):
        read_code(tmp_path / "nowhere")

    (folder / "pytorch_model.bin").write_bytes(bytes(17 << 20))
    with pytest.raises(InputError, match="too large: at most 500 files and 16 MiB; weights belong to 'model'"):
        read_code(folder)


def test_code_that_changed_since_the_lock_is_refused_with_the_command(tmp_path: Path, tiny_t5: Path) -> None:
    (tmp_path / "m").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "m" / name).write_bytes((tiny_t5 / name).read_bytes())
    folder = code(tmp_path / "c")
    spec = ModelSpec.model_validate({"name": "x", "model": {"path": "m"}, "code": "c", "engine": "script"})
    plan = Plan.fit(spec, inspect(spec, tmp_path))
    assert set(config_files(plan, tmp_path)) == {"serving.properties", "model.py", "sub/words.txt"}

    (folder / "model.py").write_text("def handle(inputs): return 1\n")

    with pytest.raises(InputError, match=r"changed since the lock was written; write it anew with `heavylift plan"):
        config_files(plan, tmp_path)
