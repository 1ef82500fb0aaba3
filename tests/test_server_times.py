"""The server's times in the custom attributes of a reply: only who asks gets them, and nobody's own are lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_runtime.server.times import MOST, with_times

TIMES = {"queue": 0.0015, "first": None, "total": 0.0300004}
TOLD = "heavylift-queue-us=1500;heavylift-total-us=30000"


@pytest.mark.parametrize("asked", ["heavylift-times", "trace=7; heavylift-times", "heavylift-times=1;trace=7"])
def test_a_request_that_asks_gets_the_known_times_behind_its_own_attributes(asked: str) -> None:
    assert with_times(asked, asked, TIMES) == f"{asked};{TOLD}"


@pytest.mark.parametrize("asked", ["", "trace=7", "not-heavylift-times", "heavylift-times-x=1"])
def test_a_request_that_does_not_ask_gets_its_attributes_as_they_came(asked: str) -> None:
    assert with_times(asked, asked, TIMES) == asked


def test_a_script_s_own_attributes_stay_in_front() -> None:
    assert with_times("k=v", "heavylift-times", TIMES) == f"k=v;{TOLD}"
    assert with_times("", "heavylift-times", TIMES) == TOLD


@given(st.integers(min_value=0, max_value=1100))
def test_where_there_is_no_room_the_attributes_stay_whole(size: int) -> None:
    own = "x" * size

    whole = with_times(own, "heavylift-times", TIMES)

    assert whole.startswith(own)
    assert whole == own or len(whole) <= MOST
    assert (whole == own) == (len(own) + 1 + len(TOLD) > MOST)
