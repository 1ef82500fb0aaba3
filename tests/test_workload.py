"""The committed workload and how it is dealt. Not the tasks' own rules (training/tasks.py)."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.workload import FOLDER, Workload, packed

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


def test_a_dataset_travels_within_the_benchmark() -> None:
    lines = (json.dumps({"task": "greet", "input": "hello"}) + "\n").encode() * 3

    document = json.loads(json.dumps(packed("mine.jsonl", lines)))
    workload = Workload.load(document)

    assert [example.input for example in workload.examples] == ["hello"] * 3
    assert (workload.examples[0].answer, workload.examples[2].number) == (None, 3)


def test_a_dataset_that_is_too_large_or_not_itself_is_refused() -> None:
    rng = Random(1)
    noise = "".join(json.dumps({"task": "a", "input": rng.randbytes(60).hex()}) + "\n" for _ in range(2000)).encode()
    good = packed("mine.jsonl", b'{"task": "a", "input": "b"}')

    with pytest.raises(FormatError, match="at most 65536: take fewer of its lines"):
        packed("mine.jsonl", noise)
    for change in ({"sha256": "0" * 64}, {"gzip_base64": "!"}, {"gzip_base64": "AAAA"}, {"name": "a b"}):
        with pytest.raises(FormatError):
            Workload.load({"dataset": {**good["dataset"], **change}})
    for document in ({}, {"moon": 1}, {**good, "synthetic": {}}, {"dataset": 3}):
        with pytest.raises(FormatError):
            Workload.load(document)


def test_a_dataset_that_unpacks_without_end_is_refused() -> None:
    bomb = base64.b64encode(gzip.compress(b" " * 20_000_000)).decode()

    with pytest.raises(FormatError, match="longer than"):
        Workload.load({"dataset": {"name": "x", "sha256": "0" * 64, "gzip_base64": bomb}})


def test_synthetic_prompts_have_their_lengths_and_their_shared_prefix() -> None:
    asked = {"prompt_words": [20, 40], "new_tokens": [5, 9], "shared_prefix_words": 10, "prompts": 64}

    first, again, other = (Workload.load({"synthetic": asked}, seed) for seed in (7, 7, 8))

    words = [example.input.split() for example in first.examples]
    assert len(words) == 64 and {len(each) for each in words} <= set(range(20, 41))
    assert len({tuple(each[:10]) for each in words}) == 1 and len({tuple(each) for each in words}) == 64
    assert {example.new_tokens for example in first.examples} <= set(range(5, 10))
    assert first == again and first.digest != other.digest


@pytest.mark.parametrize(
    "change", [{"prompt_words": [9, 5]}, {"prompt_words": 5}, {"new_tokens": [0, 1]}, {"prompts": 0}, {"moon": 1}]
)
def test_synthetic_prompts_that_cannot_be_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        Workload.load({"synthetic": {"prompt_words": [5, 9], "new_tokens": [1, 2]} | change})


def test_the_warm_up_begins_with_the_prompts_that_the_measurement_comes_to_last(four_tasks: Workload) -> None:
    forwards = list(itertools.islice(four_tasks.batches(4, seed=7), 50))
    backwards = list(itertools.islice(four_tasks.batches(4, seed=7, last_first=True), 50))

    assert backwards == forwards[::-1]
