"""The machine that calibrate describes."""

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift.calibrate.machine import threads_per_core


def test_threads_per_core_are_those_that_the_processor_reports() -> None:
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    reported = {name.strip(): value.strip() for name, _, value in lines}
    if "siblings" not in reported:
        pytest.skip("this processor does not report siblings in /proc/cpuinfo (only x86 does)")

    assert threads_per_core() == int(reported["siblings"]) // int(reported["cpu cores"])
