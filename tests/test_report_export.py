"""A run as CSV, JUnit XML, Markdown, PNG and JSON, through the command that writes them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from heavylift.benchmark.report import build_report
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.verdict import judge
from heavylift.cli import main
from heavylift.report import export, picture
from tests.benchmark_documents import recorded, sample

GOLDEN = Path(__file__).parent / "golden" / "benchmark"
HOSTILE = "<script>|`x`\n**bold** & \x00\x1b[31m \ud800"


def report_of(recording: Recording, **changes: Any) -> dict[str, Any]:
    return build_report(recording, judge(recording), samples="s3://b/samples.jsonl.gz") | changes


@pytest.fixture(scope="module")
def killed() -> tuple[dict[str, Any], Recording]:
    folder = GOLDEN / "killed"
    return json.loads((folder / "report.json").read_text()), Recording.load(folder / "samples.jsonl.gz")


def test_the_csv_has_every_request_with_both_clocks(killed: tuple[dict[str, Any], Recording]) -> None:
    _, recording = killed

    rows = list(csv.DictReader(io.StringIO(export.to_csv(recording))))

    assert [int(row["index"]) for row in rows] == [each.index for each in recording.samples]
    assert [float(row["latency_ms"]) for row in rows] == [round(each.latency_ms, 3) for each in recording.samples]
    first = recording.samples[0]
    assert float(rows[0]["service_ms"]) == pytest.approx((first.end_s - first.sent_s) * 1000, abs=1e-3)
    assert sum(row["error"] == "unavailable" for row in rows) == 48
    assert int(rows[0]["generated_tokens"]) == sum(row.generated_tokens or 0 for row in first.rows)


def test_no_cell_of_the_csv_is_what_an_endpoint_said() -> None:
    recording = recorded([10.0])
    formula = replace(recording, samples=(sample(0, 0.0, 0.01, output="=HYPERLINK(1)", task="=cmd"),))

    assert "=" not in export.to_csv(formula)


def test_a_missed_target_is_a_failure_in_junit(killed: tuple[dict[str, Any], Recording]) -> None:
    report, _ = killed

    suite = ElementTree.fromstring(export.to_junit(report))

    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "3", "0")
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert failed == ["e2e_latency p90", "error_rate", "quality"]


def test_a_void_run_is_an_error_in_junit_and_never_green() -> None:
    report = report_of(replace(recorded([100.0]), samples=()))

    suite = ElementTree.fromstring(export.to_junit(report))

    assert suite.get("errors") == str(1 + len(report["judgements"]))
    error = suite.find("testcase[@name='the run can judge']/error")
    assert error is not None and "no measured request was sent" in str(error.get("message"))


def test_hostile_texts_break_no_form() -> None:
    report = report_of(recorded([10.0, 20.0]), name=HOSTILE, run=HOSTILE, samples=HOSTILE, void=[HOSTILE])
    report["quality"] = {"overall": 1.0, "by_task": {HOSTILE: 1.0}}

    suite = ElementTree.fromstring(export.to_junit(report).encode(errors="replace"))
    lines = export.to_markdown(report).splitlines()

    assert suite.get("name") == "heavylift " + HOSTILE.translate(dict.fromkeys((0, 0x1B, 0xD800), 0xFFFD))
    assert not any("<script>" in line.replace("`<script>", "") for line in lines)
    assert lines[0].startswith("## \\<script\\>\\|\\`x\\` \\*\\*bold\\*\\* &amp;")
    assert [line for line in lines if line.startswith("bold")] == []


def test_the_markdown_has_the_verdict_the_targets_and_the_table(killed: tuple[dict[str, Any], Recording]) -> None:
    report, _ = killed

    text = export.to_markdown(report)

    assert text.startswith("## tiny-t5: FAIL\n")
    assert "| error_rate | missed | error\\_rate is 81.67 %, limit 0 % |" in text
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("| ") and "tiny-t5" in line}
    assert widths == {10}


@pytest.mark.parametrize(
    "recording",
    [recorded([12.0, 13.0, 50.0]), recorded([None] * 3), replace(recorded([1.0]), samples=()), recorded([5.0] * 300)],
    ids=["some", "only failures", "nothing", "all equal"],
)
def test_the_picture_is_a_png_with_the_verdicts_colour(recording: Recording) -> None:
    report = report_of(recording)

    with Image.open(io.BytesIO(picture.to_png(report, recording))) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or []}
        size = image.size

    verdict = picture.COLOURS[report["verdict"]].removeprefix("#")
    assert tuple(bytes.fromhex(verdict)) in colours
    assert size[0] == 1440


def test_the_same_run_gives_the_same_picture() -> None:
    recording = recorded([12.0, 13.0, 50.0])

    assert picture.to_png(report_of(recording), recording) == picture.to_png(report_of(recording), recording)


@pytest.mark.parametrize(
    ("form", "start"),
    [("html", b"<!DOCTYPE html>"), ("png", b"\x89PNG"), ("json", b'{"format": "heavylift.report/'), ("csv", b"index,"),
     ("junit", b"<?xml"), ("markdown", b"## tiny-t5")],
)  # fmt: skip
def test_report_writes_a_run_in_each_form(form: str, start: bytes, tmp_path: Path) -> None:
    target = tmp_path / "out"

    from_folder = main(["report", str(GOLDEN / "good"), "--format", form, "--output", str(target)])
    content = target.read_bytes()
    from_samples = main(
        ["report", str(GOLDEN / "good" / "samples.jsonl.gz"), "--format", form, "--output", str(target)]
    )

    assert (from_folder, from_samples) == (0, 0)
    assert content.startswith(start)
    assert target.read_bytes().startswith(start)
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


def test_report_writes_to_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["report", str(GOLDEN / "good"), "--format", "json"]) == 0

    out = capfdbinary.readouterr().out
    assert json.loads(out.splitlines()[-1])["verdict"] == "PASS"


def test_report_of_nothing_is_the_users_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), "--format", "csv"]) == 2
    assert "report.json: No such file or directory" in capsys.readouterr().err
    assert main(["report", str(GOLDEN / "good"), "--output", str(tmp_path / "no" / "x")]) == 2
    assert "cannot write" in capsys.readouterr().err
