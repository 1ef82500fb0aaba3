"""Verdicts: PASS, FAIL, VOID, and the sentences that say why."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.benchmark.report import build_report, data_quality
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.slo import Slo
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge, percent
from tests.benchmark_documents import benchmark_document, recorded, sample

# Two runs against the runtime with tiny-t5 at degree 2 on a 2-core machine; in one a rank was killed on the way.
GOLDEN = Path(__file__).parent / "golden" / "benchmark"


def slo(metric: str, **limits: float) -> list[dict[str, object]]:
    return [{"metric": metric, **limits}]


def test_targets_that_are_met_pass() -> None:
    verdict = judge(recorded([100.0] * 30))

    assert verdict.verdict == "PASS"
    assert verdict.sentences == ()


def test_a_missed_latency_fails_with_the_value_and_the_limit() -> None:
    verdict = judge(recorded([812.3] * 10, slo=slo("e2e_latency", percentile=90, max_ms=1)))

    assert verdict.verdict == "FAIL"
    assert verdict.sentences == ("e2e_latency p90 is 812.3 ms, limit 1.0 ms",)


def test_a_value_exactly_at_the_limit_passes() -> None:
    assert judge(recorded([250.0] * 5, slo=slo("e2e_latency", percentile=50, max_ms=250))).verdict == "PASS"


def test_a_miss_by_a_hair_shows_enough_digits_to_see_it() -> None:
    verdict = judge(recorded([1000.002] * 5, slo=slo("e2e_latency", percentile=50, max_ms=1000)))

    assert verdict.sentences == ("e2e_latency p50 is 1000.002 ms, limit 1000.000 ms",)


def test_the_percentile_interpolates_linearly() -> None:
    verdict = judge(recorded([10.0, 20.0, 30.0, 40.0], slo=slo("e2e_latency", percentile=90, max_ms=100)))

    assert verdict.judgements[0].value == pytest.approx(37.0)


def test_a_failed_request_is_infinitely_slow_not_fast() -> None:
    targets = slo("e2e_latency", percentile=90, max_ms=1000)

    many, few = (
        judge(recorded([100.0] * 5 + [None] * 5, slo=targets)),
        judge(recorded([100.0] * 59 + [None], slo=targets)),
    )

    assert many.judgements[0].value == math.inf
    assert many.sentences == ("e2e_latency p90 has no value, because the request at that rank failed, limit 1000.0 ms",)
    assert few.verdict == "PASS"


def test_errors_count_as_wrong_answers() -> None:
    targets = [*slo("quality", min=0.95), *slo("error_rate", max=0)]

    verdict = judge(recorded([100.0] * 9 + [None] * 3, slo=targets))

    assert verdict.sentences == ("quality is 75 %, at least 95 %", "error_rate is 25 %, limit 0 %")


def test_tokens_per_second_is_over_the_whole_window() -> None:
    verdict = judge(recorded([500.0] * 20, slo=slo("tokens_per_second", min=11)))

    assert verdict.judgements[0].value == pytest.approx(10.0)
    assert verdict.sentences == ("tokens_per_second is 10.0 tokens/s, at least 11.0 tokens/s",)


def test_a_throughput_target_without_token_counts_is_void_never_pass() -> None:
    recording = recorded([100.0], slo=slo("tokens_per_second", min=1))
    uncounted = replace(recording, samples=(sample(0, 0.0, 0.1, prompt_tokens=None, generated_tokens=None),))

    verdict = judge(uncounted)

    assert verdict.verdict == "VOID"
    assert verdict.judgements[0].passed is None
    assert verdict.void == ("tokens_per_second cannot be judged: the replies do not count their tokens",)


def test_a_throughput_target_where_every_request_failed_is_missed() -> None:
    verdict = judge(recorded([None] * 20, slo=slo("tokens_per_second", min=1)))

    assert verdict.verdict == "FAIL"


def test_too_few_requests_before_the_time_limit_are_void_whatever_they_show() -> None:
    recording = recorded([100.0] * 6, time_limit_s=210)
    hurried = replace(recording, samples=recording.samples[:4])

    verdict = judge(hurried)

    assert verdict.verdict == "VOID"
    assert verdict.sentences == ("only 4 of 6 measured requests were sent in 210 s, the time limit",)


def test_no_measured_request_is_void() -> None:
    verdict = judge(replace(recorded([100.0]), samples=()))

    assert verdict.verdict == "VOID"
    assert verdict.void == ("no measured request was sent in 300 s, the time limit",)
    assert all(judgement.passed is None for judgement in verdict.judgements)


def test_an_endpoint_that_changed_under_the_benchmark_is_void() -> None:
    verdict = judge(recorded([100.0] * 3, observed_endpoint_config="config-0"))

    assert verdict.verdict == "VOID"
    assert verdict.void[0].startswith("after the last request the endpoint had the config config-0, not config-1")


def test_warm_up_requests_are_in_no_number() -> None:
    recording = recorded([5000.0] + [100.0] * 5, slo=slo("e2e_latency", percentile=50, max_ms=200))
    warm = replace(recording.samples[0], phase="warmup")
    benchmark = Benchmark.from_dict(benchmark_document(requests=5, slo=slo("e2e_latency", percentile=50, max_ms=200)))
    warmed = Recording(replace(recording.run, benchmark=benchmark), (warm, *recording.samples[1:]))

    assert judge(warmed).verdict == "PASS"


def test_a_recording_can_be_judged_by_other_targets() -> None:
    recording = recorded([100.0] * 30)

    assert judge(recording).verdict == "PASS"
    assert judge(recording, [Slo("e2e_latency", 50, 90)]).verdict == "FAIL"


def test_data_quality_says_normal_only_when_its_target_is_met() -> None:
    usual, strict = (recorded([1.0], slo=slo("quality", min=limit)) for limit in (0.95, 0.999))

    assert data_quality(usual, 0.95) == "normal (95 %)"
    assert data_quality(usual, 0.9499) == "degraded (94.99 %)"
    assert data_quality(strict, 0.9985) == "degraded (99.85 %)"
    assert data_quality(strict, 0.99999) == "normal (99.99 %)"
    assert data_quality(strict, 1.0) == "normal (100 %)"
    assert data_quality(strict, None) == "not measured"


@given(st.floats(0, 1))
def test_only_all_shows_as_100_percent_and_only_nothing_as_0(share: float) -> None:
    shown = percent(share)

    assert (shown == "100 %") == (share == 1)
    assert (shown == "0 %") == (share == 0)
    assert abs(float(shown.removesuffix(" %")) - share * 100) <= 0.0101


@pytest.mark.parametrize("run", ["good", "killed"])
def test_the_golden_samples_give_the_golden_report(run: str) -> None:
    recording = Recording.load(GOLDEN / run / "samples.jsonl.gz")

    report = build_report(recording, judge(recording), samples="s3://reports/samples.jsonl.gz")

    assert json.loads(json.dumps(report)) == json.loads((GOLDEN / run / "report.json").read_text())


def test_the_golden_numbers_are_those_of_a_second_computation() -> None:
    recording = Recording.load(GOLDEN / "good" / "samples.jsonl.gz")
    measured = [s for s in recording.samples if s.phase == "measure"]
    latencies = [(s.end_s - s.intended_s) * 1000 for s in measured]

    report = build_report(recording, judge(recording), samples="x")

    assert report["latency_ms"]["p99"] == pytest.approx(float(numpy.percentile(latencies, 99)), abs=1e-6)
    assert report["latency_ms"]["mean"] == pytest.approx(statistics.fmean(latencies), abs=1e-6)
    generated = sum(row.generated_tokens or 0 for s in measured for row in s.rows)
    seconds = measured[-1].end_s - measured[0].intended_s
    assert report["tokens_per_second"] == pytest.approx(generated / seconds, abs=1e-6)


def test_a_report_is_json_even_where_nothing_was_measured() -> None:
    for recording in (replace(recorded([100.0]), samples=()), recorded([None] * 4)):
        report = build_report(recording, judge(recording), samples="x")

        text = json.dumps(report, allow_nan=False)
        assert json.loads(text)["table"]["p50_ms"] is None


def streamed(gaps_us: list[int], *, count: int = 40, failed: bool = False, limit: float = 10.0) -> Recording:
    """Requests of these gaps between tokens, and an itl target at p90."""
    recording = recorded([None if failed else 100.0] * count, slo=slo("itl", percentile=90, max_ms=limit))
    samples = tuple(
        replace(each, first_byte_s=each.sent_s, first_token_s=each.sent_s + 0.01, gaps_us=tuple(gaps_us))
        if each.ok
        else each
        for each in recording.samples
    )
    return replace(recording, samples=samples)


def test_gaps_between_tokens_count_as_one_for_each_request() -> None:
    few, many = judge(streamed([5_000] * 200, count=20)), judge(streamed([5_000] * 200))

    assert few.verdict == "INCONCLUSIVE", "4000 gaps of 20 requests are 20 fates"
    assert many.verdict == "PASS"
    assert many.judgements[0].evidence is not None and many.judgements[0].evidence.effective == 40


def test_slow_gaps_fail_and_so_do_requests_of_which_none_was_answered() -> None:
    assert judge(streamed([5_000, 50_000, 50_000])).verdict == "FAIL"
    assert judge(streamed([], failed=True)).verdict == "FAIL"


def test_a_token_target_without_a_stream_is_void() -> None:
    verdict = judge(recorded([100.0] * 30, slo=slo("ttft", percentile=90, max_ms=10)))

    assert verdict.void == ("ttft p90 cannot be judged: the replies are not streamed token by token",)


def test_an_undecided_target_says_what_it_would_take() -> None:
    latencies: list[float | None] = [5000.0 if index in (5, 20, 37) else 100.0 for index in range(43)]

    verdict = judge(recorded(latencies, slo=slo("e2e_latency", percentile=90, max_ms=1000)))

    assert verdict.verdict == "INCONCLUSIVE"
    assert verdict.sentences == (
        "e2e_latency p90 is 100.0 ms, limit 1000.0 ms, but undecided at 95 % confidence: 3 of 43 requests missed it, "
        "and of so many at most 0 may",
    )


def test_tpot_is_the_time_after_the_first_token_over_the_tokens_after_it() -> None:
    (first, *_) = streamed([1000, 3000, 2000]).samples

    assert first.tpot_ms == pytest.approx(1.5), "the reply counts 5 tokens, in 4 events"
    assert replace(first, rows=(replace(first.rows[0], generated_tokens=1),)).tpot_ms is None


def test_a_price_makes_costs_of_good_requests_only() -> None:
    subject = benchmark_document()["subject"] | {"usd_per_hour": 7.2}
    recording = recorded([1000.0] * 10)
    benchmark = Benchmark.from_dict(benchmark_document(subject=subject, requests=10))
    wrong = replace(recording.samples[0], rows=(replace(recording.samples[0].rows[0], correct=False),))
    priced = Recording(replace(recording.run, benchmark=benchmark), (wrong, *recording.samples[1:]))

    cost = build_report(priced, judge(priced), samples="x")["cost"]

    assert cost["run_usd"] == pytest.approx(0.02)
    assert cost["per_1k_good_requests_usd"] == pytest.approx(1000 * 0.002 * 10 / 9, rel=1e-4)
    assert cost["per_1m_tokens_usd"] == pytest.approx(1e6 * 0.002 / 5, rel=1e-4)
