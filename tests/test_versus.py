"""`heavylift versus`: two endpoints in turns, kept, compared, told by the exit code."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heavylift.benchmark.spec import Benchmark
from heavylift.cli import main
from heavylift.commands.versus import client_to, part_of
from heavylift.errors import InputError
from heavylift.report.compare import compare
from heavylift.report.load import load_side
from tests.benchmark_documents import benchmark_document
from tests.fake_endpoint import Reply, fake_endpoint, right_answers

ROOT = Path(__file__).resolve().parent.parent


def taking(seconds: float) -> Callable[[int, bytes], Reply]:
    def serve(number: int, request: bytes) -> Reply:
        time.sleep(seconds)
        return right_answers(json.loads(request))

    return serve


def model_file(folder: Path) -> Path:
    shutil.copytree(ROOT / "models", folder / "models")
    for name in ("app.py", "cdk.json"):
        (folder / name).touch()
    file = folder / "models" / "tiny-t5.yaml"
    quick = "requests: 60\n  warmup_requests: 3\n  warmup: {window: 3, max_requests: 200}"
    file.write_text(file.read_text().replace("requests: 100", quick))
    return file


@pytest.mark.slow
def test_a_slower_endpoint_is_worse_and_both_sides_were_measured_in_turns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_endpoint(taking(0.002)) as a, fake_endpoint(taking(0.1)) as b:
        command = ["versus", str(model_file(tmp_path)), "--url", a.url, "--against", b.url, "--turns", "2"]
        code = main([*command, "--into", str(tmp_path / "out"), "--json"])

    said = capsys.readouterr()
    document = json.loads(said.out.splitlines()[-1])
    assert (code, document["verdict"]) == (3, "worse")
    assert [line.split(",")[0] for line in said.err.splitlines() if line.startswith("turn")] == [
        "turn 1 of 2: A", "turn 1 of 2: B", "turn 2 of 2: B", "turn 2 of 2: A",
    ]  # fmt: skip
    (folder,) = (tmp_path / "out").iterdir()
    assert sorted(str(path.relative_to(folder)) for path in folder.glob("*/*/*")) == [
        f"{side}/{turn}/samples.jsonl.gz" for side in "ab" for turn in ("01", "02")
    ]
    again = compare(load_side(folder / "a"), load_side(folder / "b"), tolerance=0.05)
    assert again.to_dict() == document == json.loads((folder / "comparison.json").read_text())
    assert "B is worse than A" in (folder / "report.html").read_text(encoding="utf-8")


def test_each_turn_has_its_share_of_the_requests_the_time_and_the_money() -> None:
    whole = Benchmark.from_dict(benchmark_document(requests=200, max_seconds=300, max_usd=2.0))

    part = part_of(whole, 4)

    assert (part.requests, part.max_seconds, part.max_usd) == (50, 75, 0.25)
    assert (part.seed, part.load, part.workload) == (whole.seed, whole.load, whole.workload)
    assert part_of(whole, 50).requests == 30


def test_one_variant_of_an_endpoint_is_asked_whatever_its_weight_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    benchmark = Benchmark.from_dict(benchmark_document())

    with fake_endpoint(taking(0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", server.url)
        for place in ("tiny/candidate", "tiny"):
            with client_to(place, benchmark) as client:
                client.invoke(json.dumps({"inputs": []}).encode())

    variants = [headers.get("X-Amzn-SageMaker-Target-Variant") for _, _, headers, _ in server.heard]
    assert [path for _, path, _, _ in server.heard] == ["/endpoints/tiny/invocations"] * 2
    assert variants == ["candidate", None]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (["--turns", "1"], "--turns is 1; it must be 2 to 50"),
        (["--tolerance", "-1"], "--tolerance is -1; it must be 0"),
    ],
)
def test_what_it_cannot_do_is_the_users_input(
    changed: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["versus", "x.yaml", "--against", "http://127.0.0.1:1", *changed]) == 2
    assert sentence in capsys.readouterr().err


def test_what_is_no_url_is_refused() -> None:
    benchmark: Any = Benchmark.from_dict(benchmark_document())

    with pytest.raises(InputError, match="the URL is 'ftp://x'"), client_to("ftp://x", benchmark):
        pass
