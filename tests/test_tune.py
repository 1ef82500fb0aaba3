"""Tuning: which candidates there are, how halving chooses, and the real runtime measured and stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from heavylift.cli import main
from heavylift.deploy.prepare import prepare
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift.tune.candidates import Candidate, candidates
from heavylift.tune.halving import Trial, best_of, halve
from tests.checkout import Checkout
from tests.conftest import ROOT

OWN = Candidate(1, 4, 10, 100, 2)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return prepare(ROOT / "models" / "tiny-t5.yaml", lambda done, total: None).plan


def asked(count: int) -> list[Candidate]:
    return [replace(OWN, max_batch_delay=delay) for delay in range(10, 10 + count)]


class Bench:
    """Goodput grows with the delay; counts what is asked of it."""

    def __init__(self, *, broken: tuple[int, ...] = (), seconds: float = 1e9) -> None:
        self.broken, self.left, self.asked = broken, seconds, list[tuple[int, int]]()

    def measure(self, candidate: Candidate, requests: int) -> Trial:
        self.left -= requests
        self.asked.append((candidate.max_batch_delay, requests))
        if candidate.max_batch_delay in self.broken:
            return Trial(candidate, requests, 0.0, None, None, "the runtime did not start")
        return Trial(candidate, requests, float(candidate.max_batch_delay), 1.0, 1.0)


def test_the_files_own_candidate_comes_first_and_the_choice_is_seeded(plan: Plan) -> None:
    one, same, other = (candidates(plan, cores=4, in_flight=16, count=12, seed=seed) for seed in (7, 7, 8))

    assert one[0] == Candidate.own(plan) == replace(OWN)
    assert one == same != other
    assert len(set(one)) == 12
    assert all(each.workers * each.tensor_parallel_degree <= 4 for each in one)
    assert all(each.batch_size <= 16 for each in one)


def test_a_candidate_is_the_file_with_other_options(plan: Plan) -> None:
    spec = ModelSpec.from_yaml(ROOT / "models" / "tiny-t5.yaml")
    candidate = Candidate(2, 8, 5, 64, 1)

    changed = candidate.of(spec)

    assert Candidate(**changed.serving.model_dump(), tensor_parallel_degree=1) == candidate
    assert changed.benchmark == spec.benchmark
    assert yaml.safe_load(candidate.yaml()) == {
        "tensor_parallel_degree": 1,
        "serving": {"workers": 2, "batch_size": 8, "max_batch_delay": 5, "job_queue_size": 64},
    }


def test_halving_measures_the_better_half_twice_as_long_and_never_drops_the_files_own() -> None:
    bench = Bench()

    rounds = halve(asked(8), bench.measure, requests=10, seconds_left=lambda: bench.left)

    assert [sorted(trial.candidate.max_batch_delay for trial in trials) for trials in rounds] == [
        list(range(10, 18)),
        [10, 14, 15, 16, 17],
        [10, 16, 17],
        [10, 16, 17],
    ][: len(rounds)]
    assert best_of(rounds).candidate.max_batch_delay == 17
    assert {requests for _, requests in bench.asked} == {10, 20, 40}


def test_a_candidate_that_does_not_start_is_not_tried_again() -> None:
    bench = Bench(broken=(17, 16))

    rounds = halve(asked(8), bench.measure, requests=10, seconds_left=lambda: bench.left)

    assert best_of(rounds).candidate.max_batch_delay == 15
    assert sum(delay == 17 for delay, _ in bench.asked) == 1


def test_the_time_ends_the_halving_with_what_was_measured() -> None:
    bench = Bench(seconds=25)

    rounds = halve(asked(8), bench.measure, requests=10, seconds_left=lambda: bench.left)

    assert len(bench.asked) == 3 and best_of(rounds).candidate.max_batch_delay == 12


def test_every_fault_of_the_command_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--candidates", "1", "--concurrency", "0", "--seconds", "1"]

    assert main(["tune", str(ROOT / "models" / "tiny-t5-script.yaml"), *wrong]) == 2

    said = capsys.readouterr().err
    for fault in ("add --local", "and no script", "--candidates is 1", "--concurrency is 0", "--seconds is 1;"):
        assert fault in said


@pytest.mark.slow
def test_tuning_measures_the_real_runtime_and_prints_the_lines_for_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = Checkout.make(tmp_path)
    monkeypatch.setenv("STARTED_BY", str(tmp_path))  # by which `processes` knows every process of the command
    file = checkout.root / "models" / "tiny-t5.yaml"
    before = file.read_text()

    done = checkout.run(
        "tune", str(file), "--local", "--candidates", "2", "--concurrency", "2", "--seconds", "60", "--json"
    )

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    (trials,) = document["rounds"]
    assert document["format"] == "heavylift.tuning/1"
    assert [trial["fault"] for trial in trials] == [None, None]
    assert trials[0]["goodput"] >= trials[1]["goodput"] > 0
    assert document["own"] in [trial["candidate"] for trial in trials]
    assert file.read_text() == before
    assert checkout.processes() == []


@pytest.mark.slow
def test_ctrl_c_leaves_no_server_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = Checkout.make(tmp_path)
    monkeypatch.setenv("STARTED_BY", str(tmp_path))
    command = [sys.executable, "-m", "heavylift.cli", "tune", "models/tiny-t5.yaml", "--local"]
    with subprocess.Popen(command, cwd=checkout.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not any("heavylift_runtime" in line for line in checkout.processes()):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)

        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)

    assert process.returncode == 130, said
    assert checkout.processes() == []
