"""From measured batches to coefficients, and to the file that only `plan --measured` reads."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heavylift.calibrate import recorded
from heavylift.calibrate.document import read_calibration
from heavylift.calibrate.engine import calibrate, compare
from heavylift.calibrate.machine import Machine
from heavylift.calibrate.measure import HELD_OUT, Peak, held_out
from heavylift.calibrate.memory import held
from heavylift.calibrate.observation import Observation, running, seconds
from heavylift.calibrate.solve import solve
from heavylift.calibrate.study import Study
from heavylift.errors import InputError
from heavylift.plan.model import ModelFacts
from heavylift.plan.performance.coefficients import Coefficients, calibration_for
from heavylift.plan.performance.work import Work
from heavylift.plan.plan import Plan
from heavylift.report.load import load_samples
from tests.locked import SMALL, lock_of, spec_of

TRUE = Coefficients(0.7, 0.5, 6e-5, 3e-5, 3e-4, 2.0, 0.6, 0.5, 1.5e-3)
WORK = Work.of(ModelFacts.of(SMALL), "fp32")
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def observations(noise: float = 0.03, degrees: tuple[int, ...] = (1, 2)) -> list[Observation]:
    """What an engine with the coefficients TRUE would have taken, give or take."""
    rng, found = random.Random(3), []
    for degree in degrees:
        for batch in (1, 2, 4, 8, 16):
            for prompt, answer in ((9, 1), (60, 1), (9, 16), (60, 16), (9, 40), (60, 40)):
                answers = tuple(max(1, answer - row % 3) for row in range(batch))
                empty = Observation(degree, 1.0, (prompt,) * batch, answers, 0.0)
                found.append(replace(empty, seconds=seconds(empty, WORK, "fp32", TRUE) * np.exp(rng.gauss(0, noise))))
    return found


def peaks(of: Study) -> tuple[Peak, ...]:
    """What the ledger counts, in processes that take 240 MB anyway."""
    return tuple(
        Peak(degree, batch, 30_000_000, (240_000_000 + held(of.needs(degree, batch)),) * degree)
        for degree in (1, 2)
        for batch in (1, 2, 4, 8, 16)
    )


def study(**changes: Any) -> Study:
    spec, lock = spec_of(tensor_parallel_degree=2), lock_of(SMALL)
    plan, machine = Plan.fit(spec, lock), Machine("a processor", 4, "Linux")
    found = Study(plan, lock, tuple(observations()), (), machine, 1.02)
    return replace(found, **({"peaks": peaks(found)} | changes))


def test_what_the_fit_has_not_seen_is_within_ten_per_cent() -> None:
    seen = observations()

    fitted = calibrate([each for each in seen if not held_out(each)], WORK, "fp32", calibration_for("native", None))

    unseen = [pair for pair in compare(seen, WORK, "fp32", fitted) if held_out(pair.observation)]
    assert len(unseen) == 24 and max(abs(pair.error) for pair in unseen) < 0.10
    assert fitted.how == "measured" and fitted.residual < 0.05


def test_before_a_calibration_the_same_batches_are_far_off() -> None:
    prior = calibration_for("native", None)

    errors = [abs(pair.error) for pair in compare(observations(), WORK, "fp32", prior)]

    assert np.median(errors) > 0.3  # and the interval says so: a factor of two and more


@pytest.mark.slow
def test_what_no_measurement_tells_keeps_its_wide_uncertainty() -> None:
    prior = calibration_for("native", None)

    alone = calibrate(observations(degrees=(1,)), WORK, "fp32", prior)
    both = calibrate(observations(), WORK, "fp32", prior)

    latency = 5  # of an all-reduce, which one rank never does
    assert alone.covariance[latency][latency] == pytest.approx(prior.covariance[latency][latency], rel=0.01)
    assert both.covariance[latency][latency] < 0.1 * prior.covariance[latency][latency]


def test_a_row_is_computed_as_long_as_its_answer_goes_on() -> None:
    assert running([3]).tolist() == [1, 1, 1]
    assert running([1, 4, 4, 4]).tolist() == [4, 3, 3, 3]
    assert running([1, 1, 4, 6]).tolist() == [4, 2, 2, 2, 1, 1]


def test_a_fit_of_exact_numbers_finds_them_and_one_of_none_stays_at_its_prior() -> None:
    x = np.linspace(1, 9, 9)

    found = solve(
        lambda v: v["a"] + v["b"] * x, (2 + 3 * x).tolist(), {"a": (1.0, 2.0), "b": (1.0, 2.0), "c": (5, 0.5)}
    )

    assert found.median["a"] == pytest.approx(2, rel=0.02) and found.median["b"] == pytest.approx(3, rel=0.02)
    assert found.median["c"] == pytest.approx(5) and found.covariance[2, 2] == pytest.approx(0.25, rel=0.01)


def test_the_file_shows_predicted_beside_measured_and_gives_its_coefficients_back(tmp_path: Path) -> None:
    result = study().result(NOW)
    file = tmp_path / "measured" / "x.json"

    result.write(file)

    document = json.loads(file.read_text())
    assert document["format"] == "heavylift.measured/1" and document["measured_at"] == "2026-11-21T00:00:00+00:00"
    assert read_calibration(file) == result.calibration
    assert {row["batch"] for row in document["rows"] if row["held_out"]} == set(HELD_OUT)
    for row in document["rows"]:
        assert abs(row["speed_error"]) < 0.1 and abs(row["memory_error"]) < 0.1


def test_a_plan_counts_with_the_measurements_and_says_so() -> None:
    calibration = study().result(NOW).calibration
    spec, lock = spec_of(tensor_parallel_degree=2), lock_of(SMALL)

    assumed, measured = Plan.fit(spec, lock), Plan.fit(spec, lock, [calibration])

    assert assumed.performance is not None and measured.performance is not None
    assert not assumed.performance.calibrated and measured.performance.calibrated
    assert measured.performance.calibration == "measured: native local on cpu, 36 settings, 2026-11-21"
    wide, narrow = assumed.performance.request_ms, measured.performance.request_ms
    assert narrow.p90 / narrow.p10 < 1.5 < wide.p90 / wide.p10
    assert measured.instance == assumed.instance and measured.properties == assumed.properties


def test_too_few_batches_are_refused() -> None:
    with pytest.raises(InputError, match="3 batches of x were seen; a fit needs at least 8"):
        study(observations=tuple(observations()[:3]), peaks=(), machine=None).result(NOW)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot be read as measurements"),
        ("[]", "has the format None; this version reads"),
        ('{"format": "heavylift.measured/2"}', "has the format 'heavylift.measured/2'"),
        ('{"format": "heavylift.measured/1"}', "is damaged: a calibration has the keys"),
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "m.json"
    file.write_text(text)

    with pytest.raises(InputError, match=sentence):
        read_calibration(file)


def test_recordings_of_a_lone_client_are_batches() -> None:
    recording = load_samples(Path(__file__).parent / "golden" / "benchmark" / "good" / "samples.jsonl.gz")
    subject = recording.run.benchmark.subject

    seen = list(recorded.observations([recording], subject.engine, subject.dtype, True))

    alone = recording.run.benchmark.load.concurrency == 1
    assert bool(seen) is alone
    assert all(each.degree == subject.tensor_parallel_degree and each.seconds > 0 for each in seen)
    assert list(recorded.observations([recording], "vllm", subject.dtype, True)) == []
