"""samples.jsonl.gz: the same record gives the same bytes, and damage is told."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.benchmark.samples import Recording
from heavylift.benchmark.shape import FormatError
from heavylift.cli import main
from tests.benchmark_documents import recorded


def test_a_recording_survives_its_file(tmp_path: Path) -> None:
    recording = recorded([10.0, None, 30.0])

    recording.save(tmp_path / "samples.jsonl.gz")

    assert Recording.load(tmp_path / "samples.jsonl.gz") == recording
    assert recording.encode() == recorded([10.0, None, 30.0]).encode()


def test_the_file_has_a_header_and_a_line_for_each_request() -> None:
    lines = [json.loads(line) for line in gzip.decompress(recorded([10.0, 20.0]).encode()).splitlines()]

    assert [line["type"] for line in lines] == ["run", "sample", "sample"]
    assert lines[0]["format"] == "heavylift.samples/1"
    assert lines[0]["clock"] == "seconds since the first intended send, monotonic"
    assert lines[1]["rows"] == [
        {"task": "words", "prompt_tokens": 6, "generated_tokens": 5, "finish_reason": "eos_token", "correct": True,
         "output": "one"}
    ]  # fmt: skip


@given(st.text(st.characters()), st.text())
def test_any_text_of_a_model_survives_the_file(output: str, message: str) -> None:
    recording = recorded([10.0, None])
    good = replace(recording.samples[0], rows=(replace(recording.samples[0].rows[0], output=output),))
    bad = replace(recording.samples[1], error={"kind": "model", "message": message})
    odd = replace(recording, samples=(good, bad))

    assert Recording.decode(odd.encode()) == odd


def rewritten(change: dict[str, object]) -> bytes:
    head, *rest = gzip.decompress(recorded([10.0]).encode()).splitlines()
    return gzip.compress(b"\n".join([json.dumps({**json.loads(head), **change}).encode(), *rest]))


def with_sample(change: dict[str, object]) -> bytes:
    head, line = gzip.decompress(recorded([10.0]).encode()).splitlines()
    return gzip.compress(b"\n".join([head, json.dumps({**json.loads(line), **change}).encode()]))


def with_row(change: dict[str, object]) -> bytes:
    head, line = gzip.decompress(recorded([10.0]).encode()).splitlines()
    row = {**json.loads(line)["rows"][0], **change}
    return gzip.compress(b"\n".join([head, json.dumps({**json.loads(line), "rows": [row]}).encode()]))


def lines_of(latencies: list[float | None]) -> bytes:
    return gzip.decompress(recorded(latencies).encode())


HEAD, LINE = lines_of([10.0]).splitlines()
FAILED = {"status": "error", "http_status": 500}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "format is None"),
        (b"not gzip", "expected gzip of JSON lines"),
        (recorded([10.0]).encode()[:-20], "cannot be read: Compressed file ended"),
        (recorded([10.0]).encode() + b"more", "cannot be read: Not a gzipped file"),
        (gzip.compress(b""), "format is None"),
        (gzip.compress(b"3\n"), "format is 3"),
        (gzip.compress(b"{"), "cannot be read: Expecting"),
        (gzip.compress(b"\xff\n"), "cannot be read: 'utf-8' codec"),
        (gzip.compress(b"[" * 100_000), "cannot be read: maximum recursion"),
        (gzip.compress(bytes(17 * 1024 * 1024)), "longer than 16777216 bytes"),
        (rewritten({"format": "heavylift.samples/2"}), "'heavylift.samples/2'; this version reads"),
        (rewritten({"benchmark": {}}), "benchmark has no subject"),
        (rewritten({"moon": 1}), "line 1: its keys are not"),
        (rewritten({"time_limit_s": "long"}), "its time_limit_s is 'long'"),
        (rewritten({"time_limit_s": -1}), "its time_limit_s is -1"),
        (rewritten({"cpu_share": math.nan}), "its cpu_share is nan"),
        (rewritten({"plan": {"requests": 0, "most_requests": 0, "pass_looks": [[1, 1]], "fail_looks": [[1, 1]]}}),
         "its plan is 0 requests"),
        (rewritten({"plan": {"requests": 1, "most_requests": 1, "pass_looks": [["x", 1]], "fail_looks": [[1, 1]]}}),
         "line 1"),
        (with_sample({"moon": 1}), "line 2: its keys are not"),
        (with_sample({"end_s": "soon"}), "its end_s is 'soon'"),
        (with_sample({"end_s": math.nan}), "its end_s is nan"),
        (with_sample({"end_s": math.inf}), "its end_s is inf"),
        (with_sample({"end_s": 10**400}), "its end_s is 1000"),
        (with_sample({"intended_s": -1.0}), "its intended_s is -1.0"),
        (with_sample({"gaps_us": [5, -5]}), "its gaps_us are not whole microseconds"),
        (with_sample({"phase": "later"}), "its phase is 'later'"),
        (with_sample({"status": "fine"}), "its status 'fine'"),
        (with_sample(FAILED), "its status is 'error' and its error None"),
        (with_sample(FAILED | {"error": {}}), "its error is {}"),
        (with_sample({"rows": [3]}), "its keys are not"),
        (with_sample({"rows": [{"task": "words"}]}), "its keys are not task, prompt_tokens"),
        (with_row({"generated_tokens": -4}), "its generated_tokens is -4"),
        (gzip.compress(b"\n".join([HEAD, LINE, LINE])), "line 3: a second request 0"),
        (gzip.compress(lines_of([10.0]) + b'{"type": "sample"}\n'), "line 3: its keys are not"),
        (gzip.compress(lines_of([10.0]) + b"3\n"), "line 3: its keys are not"),
        (gzip.compress(lines_of([10.0]) + b"\n"), "cannot be read: Expecting value"),
    ],
    ids=lambda value: value if isinstance(value, str) else "content",  # gzip's bytes tell the time
)  # fmt: skip
def test_damaged_or_foreign_samples_are_refused_with_a_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(FormatError) as told:
        Recording.decode(content)

    assert sentence in str(told.value)
    assert len(str(told.value)) < 2000


def test_judge_says_what_is_wrong_with_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(with_sample({"end_s": math.nan}))

    codes = [main(["judge", str(path)]) for path in (broken, tmp_path, tmp_path / "none.jsonl.gz")]

    assert codes == [2, 2, 2]
    said = capsys.readouterr().err.splitlines()
    assert "cannot be read as samples" in said[0]
    assert said[1:] == [
        f"cannot read {tmp_path}: Is a directory",
        f"cannot read {tmp_path / 'none.jsonl.gz'}: No such file or directory",
    ]


def test_a_file_without_a_request_is_void(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "samples.jsonl.gz"
    empty.write_bytes(gzip.compress(HEAD + b"\n"))

    assert main(["judge", str(empty)]) == 4

    assert "no measured request was sent" in capsys.readouterr().out
