"""A dataset beside the model file: locked, planned, sent with the gate. Not its dealing (test_workload)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from heavylift.benchmark.workload import Workload
from heavylift.errors import InputError
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift.weights import inspect

ROOT = Path(__file__).resolve().parent.parent


def test_a_dataset_beside_the_model_file_is_locked_whole(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "outside.jsonl").write_text('{"task": "a", "input": "b"}\n')
    copy = tmp_path / "models" / "prompts.jsonl"
    copy.write_text('{"task": "greet", "input": "hello", "answer": "hi"}\n')
    (tmp_path / "models" / "link.jsonl").symlink_to(tmp_path / "outside.jsonl")
    shutil.copytree(ROOT / "models" / "tiny-t5", tmp_path / "models" / "tiny-t5")

    def spec(dataset: str) -> ModelSpec:
        slo = [{"metric": "error_rate", "max": 0.0}]
        benchmark = {"workload": {"dataset": dataset}, "slo": slo}
        return ModelSpec.model_validate({"name": "x", "model": {"path": "tiny-t5"}, "benchmark": benchmark})

    lock = inspect(spec("prompts.jsonl"), tmp_path / "models")
    plan = Plan.fit(spec("prompts.jsonl"), lock)

    assert plan.benchmark is not None and isinstance(plan.benchmark.workload, dict)
    assert Workload.load(plan.benchmark.workload).examples[0].answer == "hi"
    assert lock.stale(spec("other.jsonl")) == "the lock has the dataset prompts.jsonl, the model file names other.jsonl"
    with pytest.raises(InputError, match="leads out of"):
        inspect(spec("link.jsonl"), tmp_path / "models")
    with pytest.raises(InputError, match="cannot read the dataset"):
        inspect(spec("none.jsonl"), tmp_path / "models")
    copy.write_text("{\n")
    with pytest.raises(InputError, match="line 1 is not JSON"):
        inspect(spec("prompts.jsonl"), tmp_path / "models")
