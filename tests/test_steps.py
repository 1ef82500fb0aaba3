"""What rank 0 tells the server, and when: a whole row once, a stream's first and last token at once. Not the engine."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from heavylift_runtime import steps
from heavylift_runtime.engines.engine import Piece, Request, Sampling
from heavylift_runtime.pieces import unpack
from heavylift_runtime.steps import roll
from heavylift_runtime.wire import Channel
from tests.stepping import Parrot


@contextlib.contextmanager
def rolling(parrot: Parrot) -> Iterator[Channel]:
    """The server's end of the channel to a loop in a thread."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    server, rank = Channel(ours), Channel(theirs)
    thread = threading.Thread(target=roll, args=(parrot, rank))
    thread.start()
    try:
        yield server
    finally:
        server.send({"type": "stop"})
        thread.join(20)
        assert not thread.is_alive()
        server.close()
        rank.close()


def submit(channel: Channel, key: int, *prompts: str, stream: bool, joined: bool = False) -> None:
    """One message with a row of each prompt; `key` is the first one's."""
    rows = [
        {"key": number, "request": Request(prompt, Sampling(100)).to_json(), "stream": stream, "joined": joined}
        for number, prompt in enumerate(prompts, key)
    ]
    channel.send({"type": "submit", "rows": rows})


def told(channel: Channel) -> tuple[list[Piece], dict[str, Any]]:
    """The next message with pieces: those, and its header."""
    while not (header := channel.receive().header).get("pieces"):
        continue
    return [unpack(piece) for piece in header["pieces"]], header


def words(piece: Piece) -> list[str]:
    return [token.text for token in piece.tokens]


def test_a_whole_row_is_told_once_with_all_its_tokens_and_when_the_first_came() -> None:
    with rolling(Parrot()) as channel:
        before = time.monotonic()
        submit(channel, 7, "one two three", stream=False)
        (piece,), header = told(channel)

        assert (piece.key, words(piece), piece.finish_reason) == (7, ["one", " two", " three"], "eos_token")
        ((key, opened),) = header["opened"]
        assert key == 7 and before <= opened <= time.monotonic()


def test_a_whole_row_s_tokens_are_one_text_where_the_server_asks_for_it() -> None:
    with rolling(Parrot()) as channel:
        submit(channel, 7, "one two three", stream=False, joined=True)
        (piece,), _ = told(channel)

        assert (words(piece), piece.generated_tokens, piece.finish_reason) == (["one two three"], 3, "eos_token")


def test_a_stream_s_first_and_last_token_leave_at_once_and_those_between_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steps, "BREATH", 3600)
    monkeypatch.setattr(steps, "_LOAD_SECONDS", 3600)

    with rolling(Parrot()) as channel:
        submit(channel, 1, "one two three four", stream=True)
        (first,), _ = told(channel)
        (rest,), header = told(channel)

    assert (words(first), first.finish_reason, first.generated_tokens) == (["one"], None, 1)
    assert (words(rest), rest.finish_reason, rest.generated_tokens) == ([" two", " three", " four"], "eos_token", 4)
    assert "opened" not in header


def test_one_stream_s_end_takes_no_other_s_tokens_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "BREATH", 3600)
    monkeypatch.setattr(steps, "_LOAD_SECONDS", 3600)

    with rolling(Parrot()) as channel:
        submit(channel, 1, "one two", "a b c d", stream=True)
        messages = [told(channel)[0] for _ in range(3)]

    found = [[(piece.key, words(piece), piece.finish_reason) for piece in pieces] for pieces in messages]
    assert found == [
        [(1, ["one"], None), (2, ["a"], None)],
        [(1, [" two"], "eos_token")],
        [(2, [" b", " c", " d"], "eos_token")],
    ]


@pytest.mark.parametrize(("share", "second"), [(0.0, [" two"]), (3600.0, [" two", " three"])])
def test_the_more_streams_have_tokens_the_longer_these_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch, share: float, second: list[str]
) -> None:
    monkeypatch.setattr(steps, "BREATH", 0)
    monkeypatch.setattr(steps, "SHARE", share)

    with rolling(Parrot()) as channel:
        submit(channel, 1, "one two three", stream=True)
        (first,), (then,) = told(channel)[0], told(channel)[0]

    assert (words(first), words(then)) == (["one"], second)


def test_a_stream_s_token_leaves_with_its_step_where_the_last_message_is_long_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steps, "BREATH", 0)
    monkeypatch.setattr(steps, "SHARE", 0)

    with rolling(Parrot()) as channel:
        submit(channel, 1, "one two three", stream=True)

        assert [words(told(channel)[0][0]) for _ in range(3)] == [["one"], [" two"], [" three"]]


@pytest.mark.parametrize(("end", "code"), [("memory", 507), ("die", None)])
def test_what_a_stream_has_got_is_told_also_where_memory_runs_out_or_the_engine_dies(
    monkeypatch: pytest.MonkeyPatch, end: str, code: int | None
) -> None:
    monkeypatch.setattr(steps, "BREATH", 3600)
    monkeypatch.setattr(steps, "_LOAD_SECONDS", 3600)
    monkeypatch.setattr(threading, "excepthook", lambda raised: None)  # the loop's end, in a thread here

    with rolling(Parrot()) as channel:
        submit(channel, 1, f"one two three {end}", stream=True)
        (first,), _ = told(channel)
        (rest,), _ = told(channel)

    assert (words(first), words(rest)) == (["one"], [" two", " three"])
    assert rest.finish_reason is None and rest.error == (None if code is None else (code, "memory ran out"))


def test_what_is_kept_of_a_cancelled_row_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "BREATH", 3600)
    monkeypatch.setattr(steps, "_LOAD_SECONDS", 3600)
    gate = threading.Semaphore(2)

    with rolling(Parrot(gate=gate.acquire)) as channel:
        submit(channel, 1, "one two three four five", stream=True)
        assert words(told(channel)[0][0]) == ["one"]
        channel.send({"type": "cancel", "keys": [1]})
        submit(channel, 2, "next", stream=True)
        gate.release(9)
        (piece,), _ = told(channel)

        assert (piece.key, words(piece)) == (2, ["next"])


@pytest.mark.parametrize(("linger", "processors"), [(0.0, {0, 1}), (3600.0, {0, 1}), (3600.0, {0})])
def test_the_next_request_is_answered_whether_the_rank_looks_for_it_or_sleeps(
    monkeypatch: pytest.MonkeyPatch, linger: float, processors: set[int]
) -> None:
    monkeypatch.setattr(steps, "LINGER", linger)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: processors)

    with rolling(Parrot()) as channel:
        for key in (1, 2):
            submit(channel, key, "a", stream=False)
            assert words(told(channel)[0][0]) == ["a"]


@pytest.mark.parametrize(
    ("own", "servers", "looks"), [({0}, {1}, True), ({0, 1}, {0, 1}, True), ({0, 1}, {0}, True), ({0}, {0}, False)]
)
def test_a_rank_looks_for_its_next_request_unless_the_server_has_only_its_processor(
    monkeypatch: pytest.MonkeyPatch, own: set[int], servers: set[int], looks: bool
) -> None:
    processors = {0: own, os.getppid(): servers}
    monkeypatch.setattr(os, "sched_getaffinity", processors.__getitem__)

    assert (steps.lingers() > 0) is looks
