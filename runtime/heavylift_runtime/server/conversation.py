"""What the copies of a script are asked, one thing at a time each, and what they answer. Not the line before them.

A script that says nothing for `option.predict_timeout` seconds in the middle of an answer is stuck: its copy falls.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heavylift_runtime.ranks import Copy
from heavylift_runtime.server.flow import Flow, Whole
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.silence import Silence
from heavylift_runtime.wire import Message


@dataclass(frozen=True)
class Call:
    """One HTTP request for a script."""

    properties: Mapping[str, str]
    body: bytes


@dataclass
class _Turn:
    key: int
    begun: asyncio.Future[Sequence[Whole | Flow]]
    silence: Silence
    flow: Flow | None = None


class Conversation:
    """With all copies of one script."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._keys = itertools.count(1)
        self._turns: dict[Copy, _Turn] = {}

    @property
    def running(self) -> int:
        """Copies that are answering."""
        return len(self._turns)

    async def ask(self, copy: Copy, calls: Sequence[Call]) -> Sequence[Whole | Flow]:
        """An answer for each call; a flow may go on, and the copy is busy until it is over. Raises Refused."""
        if not copy.ready.is_set():
            raise Refused(424, f"the model stopped before it saw this request: {copy.stage}")
        key = next(self._keys)
        begun: asyncio.Future[Sequence[Whole | Flow]] = asyncio.get_running_loop().create_future()
        self._turns[copy] = turn = _Turn(key, begun, self._silence(copy))
        turn.silence.watch()
        header = [{"properties": dict(call.properties), "size": len(call.body)} for call in calls]
        copy.tell(Message({"type": "call", "key": key, "calls": header}, b"".join(call.body for call in calls)))
        return await begun

    def rose(self, copy: Copy) -> None:
        """The line's own tasks wait for `copy.ready`."""

    def heard(self, copy: Copy, message: Message) -> None:
        turn = self._turns.get(copy)
        if turn is None or message.header["key"] != turn.key:
            return
        turn.silence.heard()
        if message.type == "chunk" and turn.flow is not None:
            turn.flow.put(message.body)
        elif message.type == "begin":
            turn.flow = Flow(message.header["code"], message.header["headers"], lambda: self._cancel(copy, turn))
            self._begin(turn, [turn.flow])
        else:
            turn.silence.end()
            del self._turns[copy]
            self._end(turn, message)

    def fell(self, copy: Copy, reason: str) -> None:
        turn = self._turns.pop(copy, None)
        if turn is not None:
            turn.silence.end()
            self._refuse(turn, Refused(424, f"the model stopped while it computed this request: {reason}"))

    def _end(self, turn: _Turn, message: Message) -> None:
        if message.type == "answer":
            self._begin(turn, _split(message))
        elif message.type == "end" and turn.flow is not None:
            error = message.header.get("error")
            turn.flow.finish(None if error is None else Refused(message.header["code"], str(error)))
        elif message.type == "error":
            self._refuse(turn, Refused(message.header["code"], str(message.header["error"])))
        else:
            self._refuse(turn, Refused(424, "the script's process answered out of turn"))
            raise ValueError(f"{message.type!r} out of turn")

    def _begin(self, turn: _Turn, results: Sequence[Whole | Flow]) -> None:
        if not turn.begun.done():
            turn.begun.set_result(results)

    def _refuse(self, turn: _Turn, refused: Refused) -> None:
        if turn.flow is not None:
            turn.flow.finish(refused)
        elif not turn.begun.done():
            turn.begun.set_exception(refused)

    def _cancel(self, copy: Copy, turn: _Turn) -> None:
        if self._turns.get(copy) is turn:
            copy.tell(Message({"type": "cancel", "key": turn.key}))

    def _silence(self, copy: Copy) -> Silence:
        sentence = f"copy {copy.number} did not answer within option.predict_timeout={self._seconds:g} s: stopped"
        return Silence(copy, self._seconds, time.monotonic, lambda: copy in self._turns, sentence)


def _split(message: Message) -> list[Whole]:
    """The answers of a batch, whose bodies come one after another."""
    wholes, at = [], 0
    for answer in message.header["answers"]:
        body = message.body[at : at + answer["size"]]
        wholes.append(Whole(answer["code"], answer["headers"], body))
        at += answer["size"]
    return wholes
