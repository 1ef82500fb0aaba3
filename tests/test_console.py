"""Console: numbered steps with their seconds; a spinner and a bar on a terminal only."""

from __future__ import annotations

import io

from rich.console import Console as Terminal

from heavylift.deploy.console import Console


def written_by(*, terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    ticks = iter([10.0, 12.5])
    screen = Terminal(file=stream, force_terminal=terminal, highlight=False, soft_wrap=True, width=100)
    return Console(total=2, terminal=screen, clock=lambda: next(ticks)), stream


def test_a_step_says_its_number_and_its_seconds() -> None:
    console, stream = written_by(terminal=False)

    with console.step("embedded AWS"):
        console.detail("ready [bold]\n")

    assert stream.getvalue() == "[1/2] embedded AWS\n    │ ready [bold]\n    └ 2.5 s\n"
    assert console.seconds == {"embedded AWS": 2.5}


def test_progress_is_silent_where_there_is_no_terminal() -> None:
    console, stream = written_by(terminal=False)

    with console.step("weights push"):
        console.progress("weights")(5, 10)

    assert "weights ·" not in stream.getvalue()
    assert "%" not in stream.getvalue()


def test_a_terminal_shows_how_far_the_step_is() -> None:
    console, stream = written_by(terminal=True)

    with console.step("weights push"):
        console.progress("weights")(5, 10)

    assert f"weights {'█' * 15}{'·' * 15}  50 %" in stream.getvalue()


def test_a_step_that_fails_has_no_seconds() -> None:
    console, stream = written_by(terminal=False)

    try:
        with console.step("embedded AWS"):
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass

    assert console.seconds == {}
    assert "└" not in stream.getvalue()
