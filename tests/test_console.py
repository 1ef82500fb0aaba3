"""Console: numbered steps with their seconds; a bar on a terminal only."""

from __future__ import annotations

import io

from heavylift.deploy.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_step_says_its_number_and_its_seconds() -> None:
    ticks = iter([10.0, 12.5])
    stream = io.StringIO()
    console = Console(total=2, stream=stream, clock=lambda: next(ticks))

    with console.step("embedded AWS"):
        console.detail("ready\n")

    assert stream.getvalue() == "[1/2] embedded AWS\n    │ ready\n    └ 2.5 s\n"
    assert console.seconds == {"embedded AWS": 2.5}


def test_progress_is_silent_where_there_is_no_terminal() -> None:
    stream = io.StringIO()

    Console(stream=stream).progress("weights")(5, 10)

    assert stream.getvalue() == ""


def test_progress_redraws_one_line_on_a_terminal_and_ends_it() -> None:
    stream = Terminal()
    show = Console(stream=stream).progress("weights")

    show(5, 10)
    show(10, 10)

    assert stream.getvalue().count("\r") == 2
    assert " 50 %" in stream.getvalue()
    assert stream.getvalue().endswith("100 %\n")
