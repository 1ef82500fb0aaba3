"""The committed workload and how it is dealt. Not the tasks' own rules (training/tasks.py)."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.workload import FOLDER, Workload

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def four_tasks() -> Workload:
    return Workload.load("four-tasks")


def test_the_committed_workload_is_what_its_script_writes(tmp_path: Path) -> None:
    written = tmp_path / "again.jsonl"

    subprocess.run([sys.executable, ROOT / "training" / "write_workload.py", "--out", written], check=True)

    assert written.read_bytes() == (FOLDER / "four-tasks.jsonl").read_bytes()


def test_the_workload_has_fifty_different_prompts_of_each_task(four_tasks: Workload) -> None:
    assert Counter(example.task for example in four_tasks.examples) == dict.fromkeys(four_tasks.tasks, 50)
    assert len(four_tasks.tasks) == 4
    assert len({example.input for example in four_tasks.examples}) == 200


def test_a_batch_of_four_has_one_prompt_of_each_task(four_tasks: Workload) -> None:
    batches = itertools.islice(four_tasks.batches(4, seed=7), 100)

    assert all(tuple(example.task for example in batch) == four_tasks.tasks for batch in batches)


@pytest.mark.parametrize("size", [1, 3, 5, 8])
def test_other_batch_sizes_let_the_tasks_take_turns(four_tasks: Workload, size: int) -> None:
    rows = list(itertools.chain.from_iterable(itertools.islice(four_tasks.batches(size, seed=7), 40)))

    assert [row.task for row in rows] == list(itertools.islice(itertools.cycle(four_tasks.tasks), len(rows)))


def test_no_prompt_comes_again_before_all_have_come(four_tasks: Workload) -> None:
    rows = list(itertools.chain.from_iterable(itertools.islice(four_tasks.batches(4, seed=7), 100)))

    assert set(rows[:200]) == set(rows[200:]) == set(four_tasks.examples)
    assert rows[:200] != rows[200:]


def test_the_seed_decides_the_order(four_tasks: Workload) -> None:
    def first(seed: int) -> list[object]:
        return list(itertools.islice(four_tasks.batches(4, seed=seed), 3))

    assert first(7) == first(7)
    assert first(7) != first(8)


@pytest.mark.parametrize("name", ["five-tasks", "../four-tasks", ""])
def test_an_unknown_workload_names_the_known_ones(name: str) -> None:
    with pytest.raises(FormatError, match="known: four-tasks"):
        Workload.load(name)


def test_bad_lines_are_told_with_their_numbers() -> None:
    good = json.dumps({"task": "a", "input": "b", "answer": "c"})
    lines = "\n".join([good, "{", json.dumps({"task": "a", "input": 3})]).encode()

    with pytest.raises(FormatError) as caught:
        Workload.parse("mine", lines)

    assert [fault.split(" is ")[0] for fault in caught.value.faults[:2]] == ["mine line 2", "mine line 3.input"]
    assert caught.value.faults[1] == "mine line 3.input is 3; it must be a JSON string"
