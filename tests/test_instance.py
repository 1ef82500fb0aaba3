"""When a model does not fit: what is missing in GiB, where, and the cheapest changes that would mend it."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.digest import File, digest
from heavylift.plan.lock import FORMAT, Lock, LockedModel, Weights
from heavylift.plan.memory import GIB
from heavylift.plan.plan import Plan
from heavylift.plan.stale import stale_prices
from tests.locked import SMALL, XXL, lock_of, spec_of
from tests.published_sizes import PUBLISHED
from tests.test_model_facts import EXTRA, JSON


def refusal(config: dict[str, Any] | None, *, size: int | None = None, **fields: Any) -> str:
    with pytest.raises(InputError) as caught:
        Plan.fit(spec_of(**fields), lock_of(config, size=size, code="code" in fields))
    return str(caught.value)


def test_a_refusal_names_the_cheapest_single_change_first() -> None:
    said = refusal(XXL, instance_type="ml.m5.4xlarge", serving={"batch_size": 64})

    assert "ml.m5.4xlarge needs" in said and "GiB are missing; the cheapest type that fits is ml.m6i." in said
    assert "; cheapest repairs: dtype: bf16 (quality not evaluated): ml.m5.4xlarge, $0.9216 per hour" in said
    assert "instance_type: auto: ml.m6i." in said


def test_a_named_repair_does_fit() -> None:
    fields = {"instance_type": "ml.m5.4xlarge", "serving": {"batch_size": 64}, "dtype": "bf16"}

    plan = Plan.fit(spec_of(**fields), lock_of(XXL))

    assert plan.memory.missing("host") == 0 and plan.instance.type == "ml.m5.4xlarge"


@pytest.mark.slow
def test_where_one_change_is_not_enough_two_are_named() -> None:
    said = refusal(XXL, instance_type="ml.c6i.xlarge", serving={"workers": 64}, tensor_parallel_degree=1)

    assert " and " in said.partition("cheapest repairs: ")[2]
    assert "instance_type: auto and serving.workers: 1: ml." in said


def test_where_nothing_helps_that_is_said() -> None:
    said = refusal(None, size=5000 * GIB, code="c")

    assert "no instance type fits; the nearest: ml." in said
    assert "GiB are missing" in said and "; no single change or pair of changes fits" in said


def test_a_disk_that_is_too_small_is_named_as_such() -> None:
    said = refusal(None, size=700 * GIB, code="c", instance_type="ml.m5.24xlarge")

    assert "ml.m5.24xlarge needs 700.00 GiB of disk at degree 1 and has 476.84 GiB: 223.16 GiB are missing" in said


def test_an_accelerator_that_lacks_the_format_is_refused_with_what_it_has() -> None:
    said = refusal(None, size=GIB, code="c", instance_type="ml.g4dn.xlarge", dtype="bf16")

    assert "ml.g4dn.xlarge: T4 (turing) cannot compute in bf16; use dtype fp16" in said
    assert "; dtype: fp16 (quality not evaluated): ml.g4dn.xlarge, $0.7364 per hour" in said


def test_an_accelerator_without_a_driver_is_refused() -> None:
    said = refusal(None, size=GIB, code="c", instance_type="ml.p2.xlarge", dtype="fp32")

    assert "ml.p2.xlarge: no image has a driver for K80" in said


def test_prices_that_are_old_on_a_day_are_said_to_be() -> None:
    plan = Plan.fit(spec_of(code="c", instance_type="ml.g6.16xlarge"), lock_of(None, size=GIB, code=True))

    assert stale_prices(plan, date(2025, 2, 1)) == []
    assert stale_prices(plan, date(2026, 11, 21))[0].startswith("ml.g6.16xlarge: the price is 659 days old (fmbench")


def test_a_script_on_an_accelerator_that_it_does_not_run_on_is_refused() -> None:
    said = refusal(None, size=GIB, code="c", instance_type="ml.inf2.xlarge")

    assert said == "x: engine script runs on cpu or gpu; instance_type ml.inf2.xlarge is neuron"


def test_a_type_without_a_price_is_planned_where_it_is_named_but_never_chosen() -> None:
    named = Plan.fit(spec_of(code="c", instance_type="ml.p5e.48xlarge"), lock_of(None, size=GIB, code=True))

    assert named.instance.price is None
    assert named.variant.inference_ami_version == "al2023-ami-sagemaker-inference-gpu-4-1"
    assert facts.instances()[Plan.fit(spec_of(), lock_of(SMALL)).instance.type].usd_per_hour is not None


@pytest.mark.slow
@settings(max_examples=60)
@given(data=st.data(), name=st.sampled_from(["Llama-3.1-8B", "Mixtral-8x7B", "flan-t5-base", "gpt2-xl", "bloom"]))
def test_every_mutated_config_becomes_a_plan_or_sentences(data: Any, name: str) -> None:
    config = dict(PUBLISHED[name][0])
    keys = st.sampled_from([*sorted(config), *EXTRA, "rope_scaling", "num_decoder_layers"])
    for key in data.draw(st.lists(keys, min_size=1, max_size=2)):
        if data.draw(st.booleans()):
            config[key] = data.draw(JSON | st.integers(-2, 4) | st.integers(1, 2**45))
        else:
            config.pop(key, None)
    files = (File("config.json", 700, "c" * 64), File("model.safetensors", 4_000_000, "d" * 64))
    model = LockedModel("path:m", None, config, Weights(digest(files), 4_000_700, files), "fp32", None)

    try:
        plan = Plan.fit(spec_of(), Lock(FORMAT, model, None))
    except InputError as error:
        assert error.faults and all("\n" not in fault for fault in error.faults)
    else:
        assert plan.memory.missing("host") == 0
