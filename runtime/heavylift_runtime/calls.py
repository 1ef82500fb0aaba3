"""A rank's loop over a script: one call after another, answered in one piece or in chunks. Not the script: script.py.

from the server   call {key, calls: [{properties, size}]} + the bodies, one after another · cancel {key} · stop
to the server     answer {key, answers: [{code, headers, size}]} + the bodies, one for each call
                  or, of a single call: begin {key, code, headers}, chunk {key} + body (any number),
                  end {key} or end {key, code, error}
                  or, for all calls: error {key, code, error}
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from typing import Protocol

from heavylift_runtime.steps import Inbox
from heavylift_runtime.wire import Channel, Message


class Script(Protocol):
    """What script.load gives."""

    def answer(self, message: Message) -> Iterator[Message]:
        """The messages of one call."""


def serve_calls(script: Script, channel: Channel, inbox: Inbox, rank: int, world: int) -> None:
    """Until the server says stop. Every rank of a script makes each call, only rank 0's answer is sent.

    Ranks that compute together end a stream together: it is cancelled only where there is one.
    """
    while (message := inbox.get()).type != "stop":
        if message.type != "call":
            continue  # it cancels a call that has ended meanwhile
        key = message.header["key"]
        with contextlib.closing(script.answer(message)) as replies:  # type: ignore[type-var]  # a generator
            for reply in replies:
                if rank == 0:
                    channel.send(reply.header | {"key": key}, reply.body)
                if world == 1 and reply.type == "chunk" and _cancelled(inbox):
                    channel.send({"type": "end", "key": key})
                    break


def _cancelled(inbox: Inbox) -> bool:
    """The server wants no more of this stream; it sends nothing else before the stream's end but stop."""
    try:
        message = inbox.get_nowait()
    except queue.Empty:
        return False
    if message.type == "stop":
        inbox.put(message)
    return True
