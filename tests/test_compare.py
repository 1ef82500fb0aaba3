"""Comparing two runs: what is called worse, what is noise, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from heavylift.benchmark.samples import Recording
from heavylift.cli import main
from heavylift.errors import InputError
from heavylift.report import versus
from heavylift.report.compare import Comparison, compare
from tests.benchmark_documents import recorded

GOLDEN = Path(__file__).parent / "golden" / "benchmark"


def noisy(seed: int, *, scale: float = 1.0, count: int = 600, fail: float = 0.0, **run: Any) -> Recording:
    """Latencies around 100 ms; a share of the requests fails."""
    rng = Random(seed)
    return recorded([None if rng.random() < fail else scale * rng.gauss(100, 3) for _ in range(count)], **run)


def verdict_of(comparison: Comparison, name: str) -> str:
    return next(row.verdict for row in comparison.differences if row.name == name)


def wrong(recording: Recording, *indexes: int) -> Recording:
    """The same run with other answers to some requests."""
    samples = [
        replace(sample, rows=(replace(sample.rows[0], correct=False, output="?"),))
        if sample.index in indexes
        else sample
        for sample in recording.samples
    ]
    return replace(recording, samples=tuple(samples))


def test_two_runs_of_the_same_server_are_the_same() -> None:
    found = compare([noisy(1)], [noisy(2)])

    assert [row.verdict for row in found.differences[:2]] == ["same", "same"]
    assert found.verdict == "same"
    assert found.ks_distance is not None and found.ks_distance < 0.12


@pytest.mark.parametrize(("scale", "latency", "rate"), [(1.3, "worse", "worse"), (0.7, "better", "better")])
def test_a_slower_server_is_worse_and_a_faster_one_better(scale: float, latency: str, rate: str) -> None:
    found = compare([noisy(1)], [noisy(2, scale=scale)])

    assert verdict_of(found, "latency p50") == latency
    assert verdict_of(found, "requests per second") == rate
    row = found.differences[0]
    assert row.low is not None and row.high is not None and row.low < scale < row.high


def test_a_difference_within_the_tolerance_is_none() -> None:
    assert verdict_of(compare([noisy(1)], [noisy(2, scale=1.03)]), "latency p50") == "same"
    assert verdict_of(compare([noisy(1)], [noisy(2, scale=1.03)], tolerance=0.005), "latency p50") == "worse"


def test_few_requests_say_nothing_of_a_high_percentile() -> None:
    found = compare([noisy(1, count=100)], [noisy(2, count=100, scale=3)])

    assert verdict_of(found, "latency p50") == "worse"
    assert verdict_of(found, "latency p99") == "unclear"


def test_more_failures_are_worse_even_where_the_answers_are_fast() -> None:
    found = compare([noisy(1)], [noisy(2, fail=0.05)])

    assert verdict_of(found, "failed requests") == "worse"
    assert found.verdict == "worse"


def test_a_handful_of_lost_answers_shows_because_answers_are_paired() -> None:
    a = noisy(1)

    one, many = compare([a], [wrong(a, 5)]), compare([a], [wrong(a, *range(0, 600, 50))])

    assert (one.tasks[0].lost, one.tasks[0].changed, one.tasks[0].verdict) == (1, 1, "unclear")
    assert (many.tasks[0].lost, many.tasks[0].gained, many.tasks[0].verdict) == (12, 0, "worse")
    assert compare([wrong(a, *range(0, 600, 50))], [a]).tasks[0].verdict == "better"


def test_answers_are_paired_by_their_place_among_the_measured_however_long_the_warm_up_was() -> None:
    a = noisy(1)
    warm = [replace(sample, index=index + 9) for index, sample in enumerate(a.samples)]

    found = compare([a], [wrong(replace(a, samples=tuple(warm)), 9)])

    assert (found.tasks[0].rows, found.tasks[0].lost) == (600, 1)


def test_the_same_seed_gives_the_same_comparison() -> None:
    first, second = (compare([noisy(1)], [noisy(2)]).to_dict() for _ in range(2))

    assert first == second
    assert compare([noisy(1)], [noisy(2)], seed=8).to_dict() != first


def test_unlike_workloads_are_refused_unless_forced() -> None:
    a, b = noisy(1), noisy(2, workload_digest="1" * 64)
    b = replace(b, run=replace(b.run, benchmark=replace(b.run.benchmark, seed=8)))

    with pytest.raises(InputError, match=r"seed is 7 in .* and 8 in .*\n.*content differs"):
        compare([a], [b])
    forced = compare([a], [b], force=True)

    assert len(forced.unlike) == 2 and forced.tasks == ()
    assert "warning: compared by force: seed is 7" in versus.plain(forced)


def test_a_side_without_a_measured_request_is_refused() -> None:
    with pytest.raises(InputError, match="side B has no measured request"):
        compare([noisy(1)], [replace(noisy(2), samples=())])


def test_what_differs_between_the_subjects_is_said() -> None:
    a, b = noisy(1), noisy(2, endpoint_config="config-2")
    subject = replace(b.run.benchmark.subject, tensor_parallel_degree=4)
    b = replace(b, run=replace(b.run, benchmark=replace(b.run.benchmark, subject=subject)))

    found = compare([a], [b])

    assert found.differs == {"tensor_parallel_degree": (2, 4), "endpoint_config": ("config-1", "config-2")}
    assert "  tensor_parallel_degree: 2 → 4" in versus.plain(found)


def test_a_failed_tail_is_json_without_infinity() -> None:
    text = json.dumps(compare([noisy(1)], [noisy(2, fail=0.5)]).to_dict(), allow_nan=False)

    assert json.loads(text)["format"] == "heavylift.comparison/1"
    assert json.loads(text)["verdict"] == "worse"


def test_the_command_tells_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, killed, page = str(GOLDEN / "good"), str(GOLDEN / "killed" / "samples.jsonl.gz"), tmp_path / "page.html"

    assert main(["compare", good, good]) == 0
    assert main(["compare", good, killed, "--json", "--html", str(page)]) == 3

    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["verdict"] == "worse"
    text = page.read_text(encoding="utf-8")
    assert ">worse</div>" in text and "http" not in text.replace("http-equiv", "") and "<script" not in text


@pytest.mark.slow
def test_a_folder_of_runs_is_one_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("a", "b"):
        for seed in (1, 2):
            folder = tmp_path / side / f"run-{seed}"
            folder.mkdir(parents=True)
            noisy(seed, run=f"{side}-{seed}").save(folder / "samples.jsonl.gz")

    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert (document["a"]["runs"], document["b"]["requests"]) == (["a-1", "a-2"], 1200)


def test_a_folder_without_runs_is_the_users_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    assert "nor has any folder in it" in capsys.readouterr().err
    assert main(["compare", str(GOLDEN / "good"), str(GOLDEN / "good"), "--tolerance", "-1"]) == 2
