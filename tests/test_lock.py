"""The lock: written whole or not at all, refused when it was edited or belongs to another model file."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heavylift.errors import InputError
from heavylift.plan.digest import File, digest
from heavylift.plan.lock import FORMAT, Lock, LockedModel, Weights, lock_path, read_fresh
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift.weights import inspect

FILES = (File("config.json", 2, "a" * 64), File("model.safetensors", 8, "b" * 64))
LOCK = Lock(
    FORMAT, LockedModel("path:m", None, {"b": 1, "a": [1.5]}, Weights(digest(FILES), 10, FILES), "fp32", 2), None
)


def spec_of(**fields: Any) -> ModelSpec:
    return ModelSpec.model_validate({"name": "x", "model": {"path": "m"}, **fields})


def test_a_digest_is_that_of_sha256sums_lines_in_the_order_of_paths() -> None:
    import hashlib

    lines = f"{'a' * 64}  2  config.json\n{'b' * 64}  8  model.safetensors\n"

    assert digest(reversed(FILES)) == hashlib.sha256(lines.encode()).hexdigest()


def test_a_lock_reads_back_as_it_was_written(tmp_path: Path) -> None:
    LOCK.write(tmp_path / "x.lock")

    assert Lock.read(tmp_path / "x.lock", "c") == LOCK
    assert [file.name for file in tmp_path.iterdir()] == ["x.lock"]


def test_the_same_lock_has_the_same_bytes_whatever_the_order_of_config() -> None:
    turned = replace(LOCK, model=replace(LOCK.model, config={"a": [1.5], "b": 1}))

    assert turned.to_json() == LOCK.to_json()


def test_a_lock_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LOCK.write(tmp_path / "x.lock")

    def fail(*_: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        replace(LOCK, code=None).write(tmp_path / "x.lock")

    assert [file.name for file in tmp_path.iterdir()] == ["x.lock"]
    assert Lock.read(tmp_path / "x.lock", "c") == LOCK


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda lock: lock["model"]["weights"].update(bytes=11), "was edited"),
        (lambda lock: lock["model"]["weights"]["files"][0].update(sha256="f" * 64), "was edited"),
        (lambda lock: lock.update(format="heavylift.lock/1"), r"is not a heavylift\.lock/2: format"),
        (lambda lock: lock.update(extra=1), r"is not a heavylift\.lock/2: extra"),
        (lambda lock: lock.pop("known"), r"is not a heavylift\.lock/2: known: Field required"),
        (lambda lock: lock["known"].pop("dates"), r"is not a heavylift\.lock/2: known\.dates"),
        (lambda lock: lock["model"].pop("weights"), r"model\.weights: Field required"),
    ],
)
def test_a_lock_that_was_edited_is_refused(tmp_path: Path, change: Any, fault: str) -> None:
    document = json.loads(LOCK.to_json())
    change(document)
    (tmp_path / "x.lock").write_text(json.dumps(document))

    with pytest.raises(InputError, match=f"{fault}.*write it with `heavylift plan x.yaml`"):
        Lock.read(tmp_path / "x.lock", "heavylift plan x.yaml")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"<<<<<<< HEAD\n"])
def test_a_damaged_lock_is_refused_with_the_command_that_mends_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.lock").write_bytes(content)

    with pytest.raises(InputError, match="write it with `heavylift plan"):
        read_fresh(spec_of(), tmp_path / "x.yaml")


def test_a_missing_lock_is_refused_with_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.lock is missing; write it with `heavylift plan .*x\.yaml`"):
        read_fresh(spec_of(), tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model": {"path": "other"}}, "the lock is of path:m, the model file names path:other"),
        ({"model": {"id": "a/b", "revision": "a" * 40}}, "the lock is of path:m, the model file names hub:a/b"),
        ({"code": "c"}, "the lock has no code folder, unlike the model file"),
    ],
)
def test_a_lock_of_another_model_is_stale(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    LOCK.write(tmp_path / "x.lock")

    with pytest.raises(InputError, match=f"is stale: {reason}; write it anew with `heavylift plan"):
        read_fresh(spec_of(**fields), tmp_path / "x.yaml")
    with pytest.raises(InputError, match="the lock is stale"):
        Plan.fit(spec_of(**fields), LOCK)


def test_a_lock_says_which_facts_and_coefficients_the_plan_was_made_with() -> None:
    known = LOCK.known

    assert re.fullmatch(r"[0-9a-f]{64}", known.facts) and re.fullmatch(r"[0-9a-f]{64}", known.coefficients)
    assert set(known.dates) == {"instances", "prices", "accelerators", "collectives", "precisions", "amis"}
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\d", date) for date in known.dates.values())
    assert json.loads(LOCK.to_json())["known"] == {
        "facts": known.facts,
        "dates": known.dates,
        "coefficients": known.coefficients,
    }


@pytest.mark.parametrize(
    ("old", "sentence"),
    [
        ({}, None),
        ({"dates": {**LOCK.known.dates, "prices": "2020-01-01"}}, f"prices of {LOCK.known.dates['prices']} changed"),
        ({"coefficients": "0" * 64}, "the coefficients changed since"),
        ({"facts": "0" * 64}, "the tables of facts changed since"),
    ],
)
def test_a_plan_with_older_facts_says_so_but_stands(old: dict[str, Any], sentence: str | None) -> None:
    found = replace(LOCK.known, **old).outdated()

    assert (found is None) if sentence is None else (found is not None and sentence in found)
    assert replace(LOCK, known=replace(LOCK.known, **old)).stale(spec_of()) is None


def test_the_committed_locks_are_those_of_the_committed_models(tiny_t5: Path) -> None:
    files = sorted(tiny_t5.parent.glob("*.yaml"))

    for file in files:
        spec = ModelSpec.from_yaml(file)
        if spec.model.path is None:
            continue  # its weights are elsewhere: test_models.py has its lock
        lock, now = read_fresh(spec, file), inspect(spec, file.parent)
        assert replace(lock, known=now.known) == now, f"run `heavylift plan models/{file.name}`"
        assert lock_path(file).read_text() == lock.to_json()
