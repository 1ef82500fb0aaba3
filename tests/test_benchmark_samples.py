"""samples.jsonl.gz: the same record gives the same bytes, and damage is told."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.benchmark.samples import Recording
from heavylift.benchmark.shape import FormatError
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


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip",
        recorded([10.0]).encode()[:-20],
        gzip.compress(b""),
        gzip.compress(b"3\n"),
        gzip.compress(b"{"),
        rewritten({"format": "heavylift.samples/2"}),
        rewritten({"benchmark": {}}),
        rewritten({"moon": 1}),
        rewritten({"time_limit_s": "long"}),
        with_sample({"moon": 1}),
        with_sample({"end_s": "soon"}),
        with_sample({"rows": [3]}),
        with_sample({"rows": [{"task": "words"}]}),
        gzip.compress(gzip.decompress(recorded([10.0]).encode()) + b'{"type": "sample"}\n'),
        gzip.compress(gzip.decompress(recorded([10.0]).encode()) + b"3\n"),
    ],
)
def test_damaged_or_foreign_samples_are_refused(content: bytes) -> None:
    with pytest.raises(FormatError):
        Recording.decode(content)
