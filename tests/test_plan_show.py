"""A plan for people: plain lines, a terminal's width, one field explained."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from heavylift.errors import InputError
from heavylift.plan.explain import explain, fields
from heavylift.plan.parts import Decision
from heavylift.plan.plan import Plan
from heavylift.plan.section import Section, drawn, plain
from heavylift.plan.show import sections, show
from tests.locked import SMALL, lock_of, spec_of
from tests.plans import on_accelerators


@pytest.fixture(scope="module")
def small() -> Plan:
    return Plan.fit(spec_of(tensor_parallel_degree=2), lock_of(SMALL))


def terminal(plan: Plan, width: int, *, colours: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colours, color_system="standard" if colours else None)
    console.print(drawn(sections(plan)))
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_nothing_is_wider_than_the_terminal(small: Plan, width: int) -> None:
    for plan in (small, on_accelerators(small)):
        assert max(map(len, terminal(plan, width).splitlines())) <= width


def test_every_value_is_on_the_terminal_too(small: Plan) -> None:
    text = "".join(terminal(small, 100).split())

    for row in small.decisions:
        assert row.field[:12] in text and row.how in text
    assert small.weights_digest in text


def test_how_a_value_was_obtained_has_a_colour_and_a_word(small: Plan) -> None:
    coloured = terminal(small, 120, colours=True)

    assert "\x1b[32mcomputed" in coloured and "\x1b[1mgiven" in coloured
    assert "\x1b" not in terminal(small, 120) and "\x1b" not in show(small)


def test_times_have_intervals_and_say_that_nothing_was_measured(small: Plan) -> None:
    text = show(on_accelerators(small))

    assert "performance, expected under 4 requests per second of 500 tokens in, 200 out (given)" in text
    assert [line.split()[3:] for line in text.splitlines() if line.startswith("time per token")] == [
        ["18", "21", "27.5", "ms"]
    ]
    assert "uncalibrated: assumed for vllm on any accelerator; all targets kept with probability 97%" in text
    assert "12,600" in text


def test_costs_are_an_hour_a_month_and_a_million_tokens(small: Plan) -> None:
    text = show(on_accelerators(small))

    assert "$7.09" in text and "$5,104.80" in text and "$2.462" in text and "$0.938" in text
    assert "us-east-1, published, read 2026-11-20" in text


def test_alternatives_say_what_the_file_lacks(small: Plan) -> None:
    text = show(on_accelerators(small))

    assert "ml.p5.48xlarge, vllm bf16, degree 4, 2 copies" in text and "engine: vllm; quantization: fp8" in text


def test_a_plan_without_times_or_price_shows_what_is_known(small: Plan) -> None:
    bare = replace(small, performance=None, alternatives=(), instance=replace(small.instance, price=None))

    text = show(bare)

    assert "performance" not in text.replace("performance of", "") and "no price of this type is known" in text


def test_a_decision_is_explained_step_by_step(small: Plan) -> None:
    plan = replace(small, decisions=(Decision("engine", "native", "computed", "first (a; b); then c"),))

    found = explain(plan, "engine")

    assert found[0].title == "engine = native (computed)"
    assert found[0].rows == (("1", "first (a; b)"), ("2", "then c"))


@pytest.mark.parametrize("part", ["memory", "cost", "settings", "weights", "option.dtype", "instance_type"])
def test_every_part_can_be_explained(small: Plan, part: str) -> None:
    text = plain(explain(small, part))

    assert len(text) > 20
    if part == "instance_type":
        assert "memory of the host" in text


def test_everything_that_fields_lists_is_explained(small: Plan) -> None:
    plan = on_accelerators(small)

    assert all(explain(plan, field) for field in fields(plan))


def test_an_unknown_field_names_the_nearest(small: Plan) -> None:
    with pytest.raises(InputError, match="has no field 'instance_typ'; did you mean instance_type"):
        explain(small, "instance_typ")
    with pytest.raises(InputError, match="it has engine, dtype"):
        explain(small, "zzzzzz")


def test_a_part_that_the_plan_lacks_says_so(small: Plan) -> None:
    with pytest.raises(InputError, match="has nothing under 'alternatives'"):
        explain(replace(small, alternatives=()), "alternatives")


def test_markup_in_a_value_is_text() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(drawn([Section("[bold]t[/]", ("a",), (("[red]x[/red]",),), "[link]n")]))

    assert "[bold]t[/]" in out.getvalue() and "[red]x[/red]" in out.getvalue() and "[link]n" in out.getvalue()


def test_the_json_form_still_round_trips(small: Plan) -> None:
    plan = on_accelerators(small)

    assert Plan.from_json(plan.to_json()) == plan
    assert json.loads(plan.to_json())["alternatives"][2]["asks"] == ["engine: vllm", "quantization: fp8"]
