"""Sessions end by a clock that nobody sets, and are told by the one on the wall."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.sessions import HEADER, Sessions
from heavylift_runtime.server.visit import Visit


class Clocks:
    """Two that tests set."""

    ticks = 100.0
    wall = 1_700_000_000.0


def ask(sessions: Sessions, body: bytes = b"{}", session: str | None = None) -> dict[str, str]:
    """The headers of the answer; none where the request goes on to the model."""
    told: dict[str, str] = {}

    async def send(message: dict[str, Any]) -> None:
        told.update({name.decode(): value.decode() for name, value in message.get("headers", [])})

    headers = [] if session is None else [(HEADER.encode(), session.encode())]
    scope = {"type": "http", "path": "/invocations", "headers": headers, "extensions": {}}
    asyncio.run(sessions.answer(Visit.of(scope, send), body))  # type: ignore[arg-type]  # a message is a dictionary
    return told


def opened(sessions: Sessions) -> tuple[str, str]:
    said = ask(sessions, b'{"requestType": "NEW_SESSION"}')["x-amzn-sagemaker-new-session-id"]
    identity, _, expires = said.partition("; Expires=")
    return identity, expires


def test_a_session_lasts_its_time_from_when_it_last_spoke_whatever_the_wall_says() -> None:
    clocks = Clocks()
    sessions = Sessions(60, lambda: clocks.ticks, lambda: clocks.wall)

    identity, expires = opened(sessions)
    clocks.wall += 10 * 365 * 86_400  # the clock on the wall is set
    clocks.ticks += 50
    ask(sessions, session=identity)
    clocks.wall -= 20 * 365 * 86_400
    clocks.ticks += 50
    ask(sessions, session=identity)
    clocks.ticks += 61

    assert expires == "2023-11-14T22:14:20Z"
    with pytest.raises(Refused, match="is not open: it has expired"):
        ask(sessions, session=identity)
