"""Invariances as targets: a share of the prompts that were compared, with its test, its plan and its sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy
import pytest

from heavylift.benchmark.looks import auto, needed_for, probes_for
from heavylift.benchmark.report import build_report
from heavylift.benchmark.samples import Recording, Sample
from heavylift.benchmark.slo import Slo
from heavylift.benchmark.verdict import judge
from heavylift.report.page import evidence
from tests.benchmark_documents import recorded, sample

STRICT = Slo("batch_invariance", 1.0)


def probed(changed: Sequence[bool], phases: tuple[str, str] = ("quiet", "alone")) -> Recording:
    """Of each prompt its answer in both phases; `changed`: it is another one in the second."""
    samples: list[Sample] = []
    for number, odd in enumerate(changed):
        for phase, output in zip(phases, ("one", "two" if odd else "one"), strict=True):
            made = sample(len(samples), 0.0, 0.01, example=number, output=output)
            samples.append(replace(made, phase=phase))
    measured = [replace(each, index=len(samples) + each.index) for each in recorded([10.0] * 30).samples]
    return Recording(recorded([10.0] * 30).run, (*samples, *measured))


def test_enough_prompts_that_say_the_same_certify_that_nearly_all_do() -> None:
    good, few, bad = (
        judge(probed([False] * count + [True] * odd), [STRICT]) for count, odd in ((29, 0), (28, 0), (99, 1))
    )

    assert [each.verdict for each in (good, few, bad)] == ["PASS", "INCONCLUSIVE", "FAIL"]
    assert few.sentences == (
        "batch_invariance is 100 %, at least 100 %, but undecided: 0 of 28 prompts missed it; "
        "8 probes show at 95 % confidence that under 10 % do",
    )
    row = build_report(probed([False] * 29), good, samples="x")["judgements"][0]
    assert (row["requests"], row["violations"], row["confidence"], row["outcome"]) == (29, 0, 0.95, "pass")
    assert evidence(row).startswith(
        "0 of 29 prompts missed it; 0 would pass at 95 % confidence; it lies between 88.06 %"
    )


def test_a_prompt_counts_once_however_often_it_was_asked() -> None:
    recording = probed([False] * 20, ("quiet", "measure"))
    again = [replace(each, index=1000 + each.index) for each in recording.samples if each.rows[0].example is not None]

    verdict = judge(Recording(recording.run, (*recording.samples, *again)), [Slo("load_invariance", 1.0)])

    assert verdict.verdict == "INCONCLUSIVE"
    assert "0 of 20 prompts" in verdict.sentences[0]


def test_the_plan_counts_probes_and_no_requests() -> None:
    assert probes_for(STRICT, rows=4) == 8  # 0.9 ** 29 <= 0.05, and four prompts in each
    assert probes_for(Slo("load_invariance", 0.95), misses=0, rows=4) == 15
    assert probes_for(Slo("quality", 0.95), rows=4) is None
    assert needed_for(STRICT) is None
    assert auto([STRICT]).requests == auto([]).requests


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slo", "share"), [(Slo("batch_invariance", 0.9), 0.1), (replace(STRICT, tolerance=0.05), 0.05)]
)
def test_an_endpoint_exactly_at_the_limit_passes_in_one_run_of_twenty_at_most(slo: Slo, share: float) -> None:
    random, draws = numpy.random.default_rng(7), 400

    passed = sum(judge(probed(random.random(64) < share), [slo]).verdict == "PASS" for _ in range(draws))

    assert passed / draws <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)
