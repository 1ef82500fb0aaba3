"""The page and the picture of a plan: whole, escaped, in both colour schemes, of any size."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from heavylift.plan.parts import Decision, Range
from heavylift.plan.plan import Plan
from heavylift.report import plan_chart
from heavylift.report.axis import LEFT, WIDTH
from heavylift.report.plan_page import render
from heavylift.report.plan_picture import to_png
from tests import browser
from tests.locked import SMALL, lock_of, spec_of
from tests.plans import on_accelerators

HOSTILE = "</style><script>alert(1)</script>\"'&"


class Tags(HTMLParser):
    """Elements that are open, and those that reach beyond the page."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.bad: list[str] = []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """`<rect/>` opens nothing."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe") or any(name in ("src", "href") for name, _ in attrs):
            self.bad.append(tag)
        if tag not in ("meta", "wbr"):
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


@pytest.fixture(scope="module")
def small() -> Plan:
    return Plan.fit(spec_of(tensor_parallel_degree=2), lock_of(SMALL))


@pytest.fixture(scope="module")
def page() -> Iterator[browser.Page]:
    if browser.CHROMIUM is None:
        pytest.skip("needs Chromium")
    with browser.browser() as opened:
        yield opened


def test_the_parts_of_a_bar_lie_one_after_the_other_below_the_capacity(small: Plan) -> None:
    bar, _host = plan_chart.bars(on_accelerators(small))

    assert [piece.name for piece in bar.pieces] == ["weights", "cache", "activations"]
    places = [(piece.x, piece.x + piece.width) for piece in bar.pieces]
    assert places[0][0] == LEFT
    assert all(one[1] == pytest.approx(other[0], abs=0.02) for one, other in pairwise(places))
    assert places[-1][1] == pytest.approx(LEFT + 18 / (20 * 1.04) * (WIDTH - 12 - LEFT), abs=0.1)
    assert places[-1][1] < bar.limit and bar.fits
    assert bar.title == "each accelerator (4 · A10G): 18.00 GiB of 20.00 GiB"


def test_what_does_not_fit_goes_beyond_the_line(small: Plan) -> None:
    plan = on_accelerators(small)
    over = replace(plan, memory=replace(plan.memory, accelerator_available=10 * 2**30))

    bar = plan_chart.bars(over)[0]

    assert not bar.fits and bar.pieces[-1].x + bar.pieces[-1].width > bar.limit
    assert 'class="capacity over"' in render(over)


def test_the_plans_own_place_is_marked_once_and_drawn_last(small: Plan) -> None:
    first, token = plan_chart.fronts(on_accelerators(small))

    assert [dot.chosen for dot in first.dots] == [False, False, True]
    cheap, dear = first.dots[-1], first.dots[0]
    assert cheap.x < dear.x and cheap.y < dear.y  # to the right and lower: dearer, and quicker
    assert "needs engine: vllm; quantization: fp8" in dear.title and not dear.ready
    assert token.what == "time per token"


def test_a_plan_that_an_alternative_beats_has_its_own_place_all_the_same(small: Plan) -> None:
    plan = on_accelerators(small)
    others = tuple(each for each in plan.alternatives if each.tensor_parallel_degree != plan.tensor_parallel_degree)
    assert others and plan.performance is not None
    slow = replace(plan.performance, first_token_ms=Range(1, 10, 9000))

    first, _token = plan_chart.fronts(replace(plan, alternatives=others, performance=slow))

    own = first.dots[-1]
    assert [dot.chosen for dot in first.dots] == [False] * len(others) + [True]
    assert all(own.y < dot.y for dot in first.dots[:-1])
    assert own.title.startswith("this plan: $") and first.y.holds(9000)


def test_a_plan_without_alternatives_has_no_front(small: Plan) -> None:
    bare = replace(small, alternatives=(), performance=None)

    assert plan_chart.fronts(bare) == []
    assert "Alternatives" not in render(bare) and Image.open(io.BytesIO(to_png(bare))).size[0] > 600


def test_the_page_is_whole_and_needs_nothing_else(small: Plan) -> None:
    html = render(on_accelerators(small))

    tags = Tags()
    tags.feed(html)
    assert tags.bad == [] and tags.stack == []
    assert "prefers-color-scheme: dark" in html and "default-src 'none'" in html
    assert "uncalibrated: assumed for vllm" in html and render(on_accelerators(small)) == html


def test_every_text_is_escaped(small: Plan) -> None:
    plan = replace(
        on_accelerators(small),
        description=HOSTILE,
        decisions=(Decision(HOSTILE, HOSTILE, "given", HOSTILE),),
        properties=((HOSTILE, HOSTILE),),
    )

    html = render(plan)

    assert "<script" not in html.lower() and html.count("&lt;script&gt;") >= 5
    to_png(plan)


def test_the_picture_is_a_png_and_the_same_each_time(small: Plan) -> None:
    plan = on_accelerators(small)

    content = to_png(plan)

    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG" and image.width == 1440 and image.height > 1000
    assert to_png(plan) == content
    colours = {image.convert("RGB").getpixel((x, 2 * (132 + 36 + 40))) for x in range(0, 1440, 4)}
    assert (0x2F, 0x62, 0xC9) in colours  # the weights' blue lies on the first bar


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it_without_a_complaint_and_without_scrolling_sideways(
    page: browser.Page, small: Plan, tmp_path: Path, width: int, dark: bool
) -> None:
    file = tmp_path / "plan.html"
    file.write_text(render(on_accelerators(small)))

    page.show(file, width=width, dark=dark)

    assert page.problems == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dim = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
    assert dim is dark
