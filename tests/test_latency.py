"""The closed forms of a prompt, a step and a token: against published measurements, and as laws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.calibrate.fit import Setting, fit, predicted
from heavylift.plan.facts import accelerators
from heavylift.plan.model import ModelFacts
from heavylift.plan.performance.coefficients import NAMES, Calibration, Coefficients, calibration_for, table
from heavylift.plan.performance.device import Device
from heavylift.plan.performance.interval import DRAWS, Interval, errors, normals
from heavylift.plan.performance.speed import Batches, Request, Speed
from heavylift.plan.performance.work import Work
from tests.locked import XXL
from tests.published_sizes import CONFIGS, DEEPSEEK_V3

LLAMA_70B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "vocab_size": 128256,
}
MIXTRAL = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
APEX = json.loads((Path(__file__).parent / "golden" / "apex-vllm.json").read_text())
POINT = Coefficients(0.8, 0.6, 4e-5, 3e-5, 2e-4, 1.0, 0.8, 0.1, 5e-3)


def device(name: str, dtype: str = "bf16") -> Device:
    found = Device.of(accelerators()[name], dtype)
    assert found is not None
    return found


def work(config: dict[str, Any] = LLAMA_70B, dtype: str = "bf16", quantization: str = "none") -> Work:
    return Work.of(ModelFacts.of(config), dtype, quantization)


def apex_settings() -> list[Setting]:
    request = Request(APEX["prompt_tokens"], APEX["generated_tokens"])
    rows = 2  # 0.5 requests a second that each take 3 to 5 seconds
    return [
        Setting(work(), device("H100"), row["tensor_parallel_degree"], rows, request, row["tpot_ms"] / 1e3, None)
        for row in APEX["rows"]
    ]


def test_tokens_of_llama_70b_on_eight_h100_take_what_was_measured_within_5_per_cent() -> None:
    row = next(row for row in table() if (row.engine, row.version) == ("vllm", "0.6.0"))
    settings = apex_settings()

    said = predicted(settings, row.point())

    for setting, seconds in zip(settings, said, strict=True):
        assert seconds == pytest.approx(setting.per_token, rel=0.05), f"degree {setting.degree}: {seconds}"


@pytest.mark.parametrize("degree", [2, 4, 8])
def test_a_degree_that_the_fit_has_not_seen_is_within_9_per_cent(degree: int) -> None:
    settings = apex_settings()
    unseen = [setting for setting in settings if setting.degree == degree]

    fitted = fit([setting for setting in settings if setting.degree != degree], calibration_for("any", "any"))

    said = predicted(unseen, fitted.point())
    assert said == pytest.approx([setting.per_token for setting in unseen], rel=0.09)


def test_the_interval_of_another_engine_version_says_how_far_versions_differ() -> None:
    newer = next(row for row in table() if (row.engine, row.version) == ("vllm", "2025-10"))

    said = predicted(apex_settings(), newer.point())

    measured = np.array([setting.per_token for setting in apex_settings()])
    assert (said < measured).all()
    assert (said > 0.8 * measured).all()


def test_the_seventy_billion_parameters_are_read_once_a_step() -> None:
    speed = Speed(work(), device("H100"), 4, replace(POINT, memory=1.0, step=0.0, row=0.0, latency=0.0))

    step = speed.step(1, 0, 0)

    read = (ModelFacts.of(LLAMA_70B).parameters - 8192 * 128256) * 2  # but for the embedding, of which it reads a row
    assert step == pytest.approx(read / (4 * 3.35e12), rel=0.02)  # and 160 small sums


def test_a_mixture_reads_only_the_experts_that_its_batch_touches() -> None:
    mixture = work(MIXTRAL)

    one, many = mixture.read_bytes(1.0), mixture.read_bytes(64.0)

    assert one == pytest.approx(2 * 12.9e9, rel=0.03)  # Mixtral-8x7B uses 12.9 of its 46.7 billion
    assert many == pytest.approx(2 * 46.7e9, rel=0.01)


def test_an_encoder_decoder_reads_its_encoder_only_for_the_prompt() -> None:
    t5 = work(XXL, "fp32")
    facts = ModelFacts.of(XXL)

    assert t5.read_bytes(1.0) < 0.65 * facts.weight_bytes("fp32")
    encoder = facts.counted.encoder + facts.counted.cross_kv
    assert t5.prompt_flops(512) == 2 * encoder * 512 + 4 * 24 * 64 * 64 * 512**2
    assert t5.cache_bytes(512, 64) == pytest.approx(facts.cache_bytes(64, source=512, kv_dtype="fp32"), rel=0.01)


def test_of_the_experts_only_the_chosen_ones_are_read() -> None:
    deepseek, facts = work(DEEPSEEK_V3, "fp8"), ModelFacts.of(DEEPSEEK_V3)
    table = facts.counted.embedding  # of which a token reads a row

    assert deepseek.read_bytes(1.0) + table == pytest.approx(37.6e9, rel=0.01)  # 37 B by its report (arXiv 2412.19437)
    assert deepseek.read_bytes(100_000.0) + table == facts.parameters


def test_a_prompts_operations_are_two_for_each_parameter_and_the_causal_half_of_attention() -> None:
    llama = work(CONFIGS["Llama-3.1-8B"])
    body, head = 8_030_261_248 - 2 * 128256 * 4096 - 65 * 4096, 128256 * 4096

    assert llama.prompt_flops(1000) == 2 * body * 1000 + 2 * 32 * 4096 * 1000**2
    assert llama.step_parameters == body + head


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "gemma-2-2b"])
def test_a_prompt_and_the_same_tokens_one_by_one_attend_to_the_same_pairs(name: str) -> None:
    model, facts = work(CONFIGS[name]), ModelFacts.of(CONFIGS[name])
    near, far = facts.window_layers, facts.layers - facts.window_layers
    window = 9000 if facts.window is None else facts.window

    pairs = sum(far * (seen + 0.5) + near * min(seen + 0.5, window) for seen in range(9000))

    one_by_one = 2 * facts.layer_parameters * 9000 + 4 * facts.heads * facts.head_dim * pairs
    assert model.prompt_flops(9000) == pytest.approx(one_by_one, rel=1e-4)


def test_the_first_token_waits_for_its_own_prompt_and_for_those_before_it() -> None:
    speed, request = Speed(work(), device("H200"), 8, POINT), Request(1024, 256)

    alone, half, nearly = (float(speed.first_token(1, request, busy)) for busy in (0.0, 0.5, 0.95))

    assert float(speed.prompt(1024)) < alone
    assert half - float(speed.prompt(1024)) > speed.prompt(1024) * 0.5
    assert nearly > 5 * half


def test_one_batch_after_another_takes_its_prompts_and_its_steps() -> None:
    speed, request = Batches(work(XXL, "fp32"), device("A100-80", "fp32"), 4, POINT), Request(100, 10)

    whole = speed.first_token(4, request) + 9 * speed.per_token(4, request)

    prompts = 4 * (speed.prompt(100) + POINT.prompt * 24) + POINT.request
    parts = prompts + speed.step(4, 100, 1) + 9 * speed.step(4, 100, 5)
    assert float(whole) == pytest.approx(float(parts), rel=1e-12)


def test_tensor_parallelism_over_pcie_gains_less_than_over_nvswitch() -> None:
    request = Request(2048, 128)

    def gain(name: str) -> float:
        one, eight = (Speed(work(quantization="fp8"), device(name), n, POINT) for n in (2, 8))
        return float(one.prompt(request.prompt) / eight.prompt(request.prompt))

    assert gain("H100") > 2 > 1 > gain("L40S")  # eight L40S read a prompt more slowly than two


FINITE = st.floats(0.01, 1.0)
COEFFICIENTS = st.builds(
    Coefficients,
    memory=FINITE,
    compute=FINITE,
    step=st.floats(0, 1e-3),
    row=st.floats(0, 1e-3),
    prompt=st.floats(0, 1e-2),
    latency=st.floats(0, 10),
    bandwidth=st.floats(0.05, 2),
    crowd=st.floats(0, 1),
    request=st.floats(0, 0.1),
)
REQUESTS = st.builds(Request, prompt=st.floats(1, 1e5), answer=st.floats(1, 1e4))
KINDS = st.sampled_from([Speed, Batches])
WORKS = st.sampled_from([work(), work(XXL), work(MIXTRAL)])


@given(COEFFICIENTS, REQUESTS, KINDS, WORKS, st.integers(1, 512), st.sampled_from([1, 2, 4, 8]), st.floats(1, 10))
def test_a_faster_device_is_never_slower(
    own: Coefficients, request: Request, kind: type[Speed], work: Work, rows: int, degree: int, factor: float
) -> None:
    base = device("A100-80")
    slow = kind(work, base, degree, own)
    for fast in (replace(base, bandwidth=base.bandwidth * factor), replace(base, flops=base.flops * factor)):
        quick = kind(work, fast, degree, own)

        assert quick.per_token(rows, request) <= slow.per_token(rows, request) * (1 + 1e-9)
        assert quick.first_token(rows, request) <= slow.first_token(rows, request) * (1 + 1e-9)


@given(COEFFICIENTS, REQUESTS, KINDS, WORKS, st.integers(1, 512), st.integers(1, 64))
def test_a_larger_batch_never_gives_a_user_more_tokens_per_second(
    own: Coefficients, request: Request, kind: type[Speed], work: Work, rows: int, more: int
) -> None:
    speed = kind(work, device("H100"), 4, own)

    assert speed.per_token(rows + more, request) >= speed.per_token(rows, request) * (1 - 1e-9)
    assert speed.first_token(rows + more, request) >= speed.first_token(rows, request) * (1 - 1e-9)


@given(COEFFICIENTS, REQUESTS, KINDS, WORKS, st.integers(1, 512), st.floats(0, 2), st.sampled_from([1, 2, 8, 16]))
def test_every_time_is_a_positive_number(
    own: Coefficients, request: Request, kind: type[Speed], work: Work, rows: int, busy: float, degree: int
) -> None:
    speed = kind(work, device("L4"), degree, own)

    times = (
        speed.per_token(rows, request),
        speed.first_token(rows, request, busy),
        speed.cycle(rows, request),
        speed.busy(1.0, rows, request),
    )

    assert all(np.isfinite(time) and time > 0 for time in times)


@given(st.integers(1, 16), st.floats(1e3, 1e9), st.floats(1, 100))
def test_a_longer_message_never_arrives_earlier(half: int, size: float, more: float) -> None:
    speed = Speed(work(), device("L40S"), 2 * half, POINT)

    assert speed.all_reduce(size) <= speed.all_reduce(size * more)


def test_every_coefficient_in_the_table_is_a_share_or_a_time_and_has_its_source() -> None:
    for row in table():
        assert row.source and row.date and row.how in ("measured", "assumed")
        assert np.linalg.eigvalsh(np.array(row.covariance)).min() > -1e-6
        drawn = row.draw(normals()[:, : len(NAMES)])
        for name in NAMES:
            assert np.shape(getattr(drawn, name)) == (DRAWS,) and (np.asarray(getattr(drawn, name)) > 0).all()
        assert np.max(drawn.memory) <= 1 and np.max(drawn.compute) <= 1


def test_an_engine_that_nobody_measured_there_says_so_and_is_wider() -> None:
    measured, carried = calibration_for("vllm", "H100"), calibration_for("vllm", "L4")
    foreign = calibration_for("native", None)

    assert measured.label == "measured: vllm 2025-10 on H100, 45 settings, 2025-10-29"
    assert carried.label == "uncalibrated: assumed for vllm on any accelerator"
    assert foreign.label == "uncalibrated: assumed for any on cpu"
    assert measured.residual < carried.residual < foreign.residual


def test_a_given_calibration_comes_before_the_table() -> None:
    own = replace(calibration_for("any", None), engine="native", accelerators=("cpu",), version="here")

    assert calibration_for("native", None, [own]) is own
    assert Calibration.from_dict(json.loads(json.dumps(own.to_dict()))) == own


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rows": None, "extra": 1}, "a calibration has the keys"),
        ({"median": {}}, "'median' has the keys memory"),
        ({"residual": float("nan")}, "finite numbers"),
        ({"covariance": [[1.0]]}, "a matrix of 9 rows"),
    ],
)
def test_a_damaged_calibration_is_refused(change: dict[str, Any], sentence: str) -> None:
    document = calibration_for("any", None).to_dict()

    with pytest.raises(ValueError, match=sentence):
        Calibration.from_dict({**document, **change})


def test_draws_are_the_same_at_every_run_and_standard_normal() -> None:
    first, again = normals(), np.array(normals())

    assert (first == again).all() and first.shape == (DRAWS, 16)
    assert first[0, 0] == pytest.approx(0.9249344605, abs=1e-9)
    assert np.abs(first.mean(0)).max() < 1e-12 and np.abs(first.std(0) - 1).max() < 0.01
    spread = Interval.of(errors(0.1, -1))
    assert (spread.p10, spread.p50, spread.p90) == pytest.approx((0.88, 1.0, 1.137), abs=0.01)
