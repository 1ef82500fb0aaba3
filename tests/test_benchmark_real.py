"""The benchmark against the whole runtime with tiny-t5: it ends as soon as the verdict is settled, either way.

Not how fast the runtime is: no limit here is near what it takes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heavylift.benchmark.client import HttpClient
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge
from heavylift.cli import main
from tests.benchmark_documents import benchmark_document
from tests.served import Served, serving, write_native

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def served(tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("benchmark") / "tiny"
    with serving(write_native(tiny_t5, folder, "batch_size=4\n")) as server:
        yield server


def run(served: Served, **changes: Any) -> Recording:
    benchmark = Benchmark.from_dict(benchmark_document(**changes))
    with HttpClient(served.address) as client:
        return measure(benchmark, client, run="r", endpoint=served.address)


def p90(limit_ms: float) -> list[dict[str, Any]]:
    return [{"metric": "e2e_latency", "percentile": 90, "max_ms": limit_ms}]


def test_a_good_endpoint_is_passed_at_the_first_look_that_can(served: Served) -> None:
    recording = run(served, requests="auto", slo=[*p90(60_000), {"metric": "quality", "min": 0.5}])

    plan = recording.run.benchmark.plan
    assert (judge(recording).verdict, recording.run.stopped) == ("PASS", "decided")
    assert len(recording.measured) == plan.requests < plan.most_requests


def test_a_hopeless_endpoint_is_failed_after_tens_of_requests(served: Served) -> None:
    recording = run(served, requests="auto", slo=p90(0.01))

    assert (judge(recording).verdict, recording.run.stopped) == ("FAIL", "decided")
    assert len(recording.measured) == 10 < recording.run.benchmark.plan.requests


def test_tiny_t5_says_the_same_alone_in_a_batch_and_under_load(served: Served) -> None:
    slo = [{"metric": "batch_invariance", "min": 1.0}, {"metric": "load_invariance", "min": 1.0}]

    recording = run(served, probes=8, requests=30, load={"mode": "closed", "concurrency": 3}, slo=slo)

    report = build_report(recording, judge(recording), samples="x")
    assert report["verdict"] == "PASS", report["judgements"]
    assert [report["quality"][name]["compared"] for name in ("batch_invariance", "load_invariance")] == [32, 32]


@pytest.mark.parametrize(("limit", "code", "verdict"), [(60_000, 0, "PASS"), (0.01, 3, "FAIL")])
def test_the_command_ends_early_and_says_so_by_its_exit_code(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: float, code: int, verdict: str
) -> None:
    shutil.copytree(ROOT / "models", tmp_path / "models")
    for name in ("app.py", "cdk.json"):
        (tmp_path / name).touch()
    file = tmp_path / "models" / "tiny-t5.yaml"
    text = file.read_text().replace("requests: 100", "requests: auto").replace("max_ms: 2000", f"max_ms: {limit}")
    file.write_text(text)

    ended = main(["bench", str(file), "--url", served.address, "--into", str(tmp_path / "out"), "--json"])

    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (ended, report["verdict"], report["stopped"]) == (code, verdict, "decided")
    assert report["requests"]["measured"] < report["plan"]["most_requests"]
