"""A rank's loop over a script: one call after another, answered in one piece or in chunks. Not the script: script.py.

from the server   call {key, calls: [{properties, size}]} + the bodies, one after another · cancel {key} · stop
to the server     answer {key, answers: [{code, headers, size}]} + the bodies, one for each call
                  or, of a single call: begin {key, code, headers}, chunk {key} + body (any number),
                  end {key} or end {key, code, error}
                  or, for all calls: error {key, code, error}
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from heavylift_runtime.wire import Channel, Message


class Script(Protocol):
    """What script.load gives."""

    def answer(self, message: Message) -> Iterator[Message]:
        """The messages of one call."""


def serve_calls(script: Script, channel: Channel, rank: int, world: int) -> None:
    """Until the server says stop. Every rank of a script makes each call, only rank 0's answer is sent.

    Ranks that compute together end a stream together: it is cancelled only where there is one.
    """
    message = channel.receive()
    while message.type != "stop":
        said = None
        if message.type == "call":  # else it cancels a call that has ended meanwhile
            key = message.header["key"]
            with contextlib.closing(script.answer(message)) as replies:  # type: ignore[type-var]  # a generator
                for reply in replies:
                    if rank == 0:
                        channel.send(reply.header | {"key": key}, reply.body)
                    # in the middle of a stream the server says nothing but that it wants no more of it, or stop
                    if world == 1 and reply.type == "chunk" and (said := channel.poll()) is not None:
                        channel.send({"type": "end", "key": key})
                        break
        message = channel.receive() if said is None else said
