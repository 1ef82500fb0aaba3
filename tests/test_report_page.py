"""The page of a run: what it shows, that it is self-contained, and that nothing in it is markup of others."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from heavylift.benchmark.report import build_report
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.verdict import judge
from heavylift.errors import InputError
from heavylift.report.curve import APART
from heavylift.report.page import render, write_page, write_report
from heavylift.tune.capacity import Capacity, Step
from heavylift.tune.show import concluded
from tests.benchmark_documents import recorded, sample

GOLDEN = Path(__file__).parent / "golden" / "benchmark" / "killed"
VOID_TAGS = {"meta"}
HOSTILE = "<script>alert('x')</script>\"'&"


class Tags(HTMLParser):
    """Every tag with its attributes, and whether each was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def count(self, tag: str, kind: str) -> int:
        return sum(name == tag and attributes.get("class") == kind for name, attributes in self.tags)


def page(recording: Recording, **changes: Any) -> str:
    return render(build_report(recording, judge(recording), samples="s3://b/samples.jsonl.gz") | changes, recording)


@pytest.fixture(scope="module")
def golden() -> Recording:
    return Recording.load(GOLDEN / "samples.jsonl.gz")


def test_the_page_shows_the_verdict_the_figures_and_every_request(golden: Recording) -> None:
    report = json.loads((GOLDEN / "report.json").read_text())

    text = render(report, golden)

    tags = Tags(text)
    assert tags.open == []
    assert f">{report['verdict']}</div>" in text
    for point in ("p50", "p90", "p99"):
        assert f"<b>{report['latency_ms'][point]:,.1f}</b>" in text
    drawn = {kind: tags.count("circle", kind) - 1 for kind in ("ok", "warmup", "wrong", "failed")}  # one is in the key
    assert drawn["warmup"] == 8
    assert sum(drawn.values()) == len(golden.samples)
    assert drawn["failed"] == sum(report["errors"]["by_kind"].values())
    assert all(task in text for task in report["quality"]["by_task"])
    assert all(judgement["formula"] in text for judgement in report["judgements"])


def test_the_page_needs_nothing_from_outside(golden: Recording) -> None:
    text = page(golden)

    names = {tag for tag, _ in Tags(text).tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "base", "form"})
    assert not re.search(r"url\(|@import|https?://|src=|href=", text)
    assert "default-src 'none'" in text


def test_every_value_is_escaped() -> None:
    recording = recorded([10.0, None], endpoint=HOSTILE, gate_digest=HOSTILE, generator=HOSTILE)
    failed = replace(recording.samples[1], error={"kind": HOSTILE, "message": HOSTILE})
    odd = sample(0, 0.0, 0.01, task=HOSTILE)

    text = page(replace(recording, samples=(odd, failed)), name=HOSTILE, run=HOSTILE, void=[HOSTILE])

    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#34;&#39;&amp;") >= 8
    assert Tags(text).open == []


def test_a_limit_in_the_picture_is_a_line_and_one_beyond_it_is_a_note() -> None:
    inside = page(recorded([100.0] * 9, slo=[{"metric": "e2e_latency", "percentile": 90, "max_ms": 50}]))
    beyond = page(recorded([100.0] * 9, slo=[{"metric": "e2e_latency", "percentile": 90, "max_ms": 5000}]))

    assert Tags(inside).count("line", "limit") >= 1
    assert Tags(beyond).count("line", "limit") == 0
    assert "The limit p90 ≤ 5000 ms lies above this picture." in beyond


def test_a_slow_warm_up_request_does_not_flatten_the_picture() -> None:
    recording = recorded([9000.0, 100.0, 110.0])
    warm = replace(recording.samples[0], phase="warmup")

    text = page(replace(recording, samples=(warm, *recording.samples[1:])))

    assert "Drawn at the upper edge: 1 warm-up request of up to 9,000.0 ms." in text


@pytest.mark.parametrize(
    "recording",
    [
        replace(recorded([100.0]), samples=()),
        recorded([None] * 3),
        recorded([100.0]),
        recorded([100.0] * 5, slo=[]),
        recorded([0.001, 120_000.0]),
        recorded([250.0] * 40),
    ],
    ids=["nothing", "only failures", "one", "no targets", "far apart", "all equal"],
)
def test_odd_runs_have_a_page_too(recording: Recording) -> None:
    text = page(recording)

    assert Tags(text).open == []
    assert "nan" not in text and "inf" not in text.replace("infinite", "")


@pytest.mark.slow
def test_many_requests_are_thinned_but_the_extremes_stay() -> None:
    latencies = [100.0 + index % 7 for index in range(9000)]
    latencies[4321] = 777.0

    text = page(recorded(latencies))

    assert "only the fastest and the slowest is drawn" in text
    assert Tags(text).count("circle", "ok") <= 4001
    assert "request 4321 (measure, ok): 777.00 ms" in text


def test_a_runs_folder_gets_its_page(tmp_path: Path) -> None:
    for name in ("report.json", "samples.jsonl.gz"):
        (tmp_path / name).write_bytes((GOLDEN / name).read_bytes())

    path = write_page(tmp_path)

    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["report.html", "report.json", "samples.jsonl.gz"]


def test_a_page_is_written_over_an_older_one(tmp_path: Path) -> None:
    recording = recorded([100.0])
    report = build_report(recording, judge(recording), samples="x")

    first = write_report(tmp_path / "new", report, recording)
    second = write_report(tmp_path / "new", {**report, "verdict": "VOID"}, recording)

    assert first == second
    assert ">VOID</div>" in second.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("report.json", b"{", "cannot be read as a report"),
        ("report.json", b'{"format": "heavylift.report/2"}', "this version reads 'heavylift.report/1'"),
        ("report.json", b"[]", "has the format None"),
        ("samples.jsonl.gz", b"x", "cannot be read as samples"),
        ("samples.jsonl.gz", None, "samples.jsonl.gz: No such file"),
    ],
)
def test_a_damaged_folder_is_the_users_input(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    for good in ("report.json", "samples.jsonl.gz"):
        (tmp_path / good).write_bytes((GOLDEN / good).read_bytes())
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError, match=re.escape(sentence)):
        write_page(tmp_path)


def test_the_page_says_what_a_verdict_rests_on() -> None:
    slo = [{"metric": "e2e_latency", "percentile": 90, "max_ms": 150}]

    decided = page(recorded([100.0] * 60, slo=slo))
    undecided = page(recorded([100.0] * 9, slo=slo))

    assert "0 of 60 requests missed it; 1 would pass at 95 % confidence" in decided
    assert (
        ">undecided</td>" in undecided and "even without a miss so few would not pass at 95 % confidence" in undecided
    )
    assert "between 100.0 ms and unbounded" in undecided
    assert ">INCONCLUSIVE</div>" in undecided


def test_the_page_says_what_was_good_and_what_it_cost() -> None:
    recording = recorded([100.0] * 60)
    subject = replace(recording.run.benchmark.subject, usd_per_hour=3.6)
    priced = replace(recording, run=replace(recording.run, benchmark=replace(recording.run.benchmark, subject=subject)))

    assert "60 of 60 due requests (100 %)" in page(recording)
    assert "the benchmark names no price" in page(recording)
    assert "3.600 USD an hour; this run 0.0060 USD" in page(priced)
    assert "0.1000 USD at this load" in page(priced)


def test_the_page_of_a_search_says_what_was_found_even_where_one_rate_was_tried(golden: Recording) -> None:
    report = build_report(golden, judge(golden), samples="s3://b/samples.jsonl.gz")
    step = Step(8.0, "x/01", "VOID", 1.5, {"p50": 1.0, "p90": 2.0, "p99": 3.0}, (), 9.0)
    found = Capacity(None, False, "every run was void", 0.1, (step,))

    text = render(report, golden, found.to_dict()["steps"], concluded(found, golden.run.benchmark))

    assert "<b>no capacity: every run was void</b>; this page is of its last run" in text
    assert "Rate asked" in text and "Latency percentiles in milliseconds by answered" not in text
    assert "Rate asked" not in render(report, golden)


def test_the_rates_that_were_tried_stand_in_order_and_names_at_a_crowded_end_apart(golden: Recording) -> None:
    report = build_report(golden, judge(golden), samples="s3://b/samples.jsonl.gz")
    slow, near = {"p50": 1691.0, "p90": 3219.8, "p99": 3746.1}, {"p50": 75.5, "p90": 260.2, "p99": 314.1}
    steps = (Step(80.0, "x/01", "FAIL", 58.5, slow, (), 9.0), Step(56.6, "x/02", "PASS", 54.6, near, (), 9.0))
    found = Capacity(56.6, True, "the bounds are near", 0.1, steps)

    text = render(report, golden, found.to_dict()["steps"], concluded(found, golden.run.benchmark))

    assert "this page is of its best run" in text
    assert text.index("56.60<span") < text.index("80.00<span")
    card = text[text.index("Latency against throughput") :]
    names = re.findall(r'class="seriesname" x="[^"]*" y="([^"]*)">(P50|P90|P99)<', card)
    places = sorted((float(y), name) for y, name in names)
    assert [name for _, name in places] == ["P99", "P90", "P50"]
    assert all(below - above >= APART - 1e-6 for (above, _), (below, _) in itertools.pairwise(places))
