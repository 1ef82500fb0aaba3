"""Rank 0's loop over an engine that steps: hear the server, step, send what came. Not the process: worker.py.

    from the server   submit {rows: [{key, request, stream, joined?}]} · cancel {keys}
                      adapter {turn, name, src or null} · stop
    to the server     pieces {pieces, opened?, load?} (pieces.py; none to tell of the load alone, and as the answer to a
                      cancel: a copy that does not give it is stuck;
                      `opened`: [key, when its first token came, in seconds of the machine's monotonic clock])
                      refused {key, code, error}
                      adapter {turn, code?, error?}

A row that does not stream costs the server one piece, whatever its length: all its tokens, with its end; as one token
with all of the text where that is asked for (`joined`).

A stream's first token and its last leave with their step. Those between wait until `BREATH` has passed since such
tokens left, and `SHARE` for each stream that has some: a message wakes a processor on both sides, and each stream in it
costs server and client a write and a read, more than a token of a short step is worth.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Mapping
from typing import Any

from heavylift_runtime.engines.engine import Engine, Piece, Request, Token
from heavylift_runtime.errors import PromptError, RuntimeFault, ran_out
from heavylift_runtime.pieces import pack
from heavylift_runtime.wire import Channel, Message

BREATH = 0.008  # seconds between two messages with tokens that are nobody's first and nobody's last
SHARE = 0.0002  # seconds for each stream with such tokens; writing to it takes the server about a fifth of that
LINGER = 0.002  # seconds without work before the processor is given back: the next request is often that near
_LOAD_SECONDS = 0.25  # between two reports of the engine's load; one more where it has nothing left to do


def roll(engine: Engine, channel: Channel) -> None:
    """Until the server says stop. What `step` raises is not caught: the engine's state is unknown, the copy ends."""
    rows: dict[int, _Row] = {}
    fresh: dict[int, _Row] = {}  # streams with something to tell
    told = spoken = 0.0  # when of the load, and when no stream had anything more to tell
    busy = engine.busy
    while True:
        while (message := channel.poll() if busy else _next(channel)) is not None:
            if message.type == "stop":
                return
            if message.type == "submit":
                for row in message.header["rows"]:
                    _add(engine, channel, row, rows)
            elif message.type == "cancel":
                for key in message.header["keys"]:
                    engine.cancel(key)
                    rows.pop(key, None)
                    fresh.pop(key, None)
                channel.send({"type": "pieces", "pieces": [], "load": _load(engine)})
            elif message.type == "adapter":
                channel.send(_adapt(engine, message.header))
            busy = engine.busy
        try:
            came, now = engine.step(), time.monotonic()
        except Exception:
            if fresh:  # what streams have got until now is sound
                channel.send({"type": "pieces", "pieces": [pack(each.take()) for each in fresh.values()]})
            raise
        leaving: dict[int, _Row] = {}  # those that began or ended
        for piece in came:
            key = piece.key
            if (found := rows.get(key)) is None:
                continue  # cancelled meanwhile
            last = piece.finish_reason is not None or piece.error is not None
            first = found.put(piece, now)
            if last:
                del rows[key]
                leaving[key] = found
            elif found.stream:
                (leaving if first else fresh)[key] = found
        busy, due = engine.busy, now - told >= _LOAD_SECONDS
        if fresh and (not busy or now - spoken >= max(BREATH, SHARE * len(fresh))):
            leaving, fresh = fresh | leaving, {}
        else:
            for key in leaving:
                fresh.pop(key, None)
        if leaving and not fresh:
            spoken = now
        if not (leaving or due):
            continue
        news: dict[str, Any] = {"type": "pieces", "pieces": [pack(each.take()) for each in leaving.values()]}
        if opened := [[key, each.opened] for key, each in leaving.items() if not each.stream]:
            news["opened"] = opened
        if due or not busy:
            news["load"], told = _load(engine), now
        channel.send(news)


def _next(channel: Channel) -> Message:
    """The next message. A thread that sleeps wakes up late and on a cold processor, so it looks for a while first, and
    lets nobody in: a busy machine's other work would keep the processor for milliseconds."""
    until = time.monotonic() + lingers()
    while time.monotonic() < until:
        if (message := channel.poll()) is not None:
            return message
    return channel.receive()


def lingers() -> float:
    """Seconds for which this rank looks for its next request before it sleeps: none where the server, which starts it,
    has no other processor than its own."""
    processors = os.sched_getaffinity(0) | os.sched_getaffinity(os.getppid())
    return LINGER if len(processors) > 1 else 0.0


class _Row:
    """What is kept of a row until it is told: the tokens of its last pieces."""

    def __init__(self, stream: bool, joined: bool) -> None:
        self.stream, self._joined = stream, joined
        self.opened: float | None = None  # when its first piece came
        self._kept: list[Token] = []
        self._last: Piece | None = None

    def put(self, piece: Piece, now: float) -> bool:
        """A piece has come; whether it is the first."""
        if self._last is not None:
            self._kept += self._last.tokens
        self._last, first = piece, self.opened is None
        if first:
            self.opened = now
        return first

    def take(self) -> Piece:
        """All that came since the last time, as one piece."""
        assert self._last is not None, "only rows with news are told"
        piece, kept = self._last, self._kept
        self._last, self._kept = None, []
        if not kept:
            return piece
        whole = (*kept, *piece.tokens)
        if self._joined:
            whole = (Token(whole[-1].id, "".join([token.text for token in whole])),)
        return Piece(piece.key, whole, piece.finish_reason, piece.prompt_tokens, piece.generated_tokens, piece.error)


def _add(engine: Engine, channel: Channel, row: Mapping[str, Any], rows: dict[int, _Row]) -> None:
    key = int(row["key"])
    try:
        engine.add(key, Request.from_json(row["request"]))
    except PromptError as error:
        channel.send({"type": "refused", "key": key, "code": 400, "error": str(error)})
    except Exception as error:  # nothing is computed yet, so the other rows are sound
        traceback.print_exc()
        sentence = f"the engine cannot take this request: {type(error).__name__}: {error}"
        channel.send({"type": "refused", "key": key, "code": 424, "error": sentence})
    else:
        rows[key] = _Row(bool(row["stream"]), bool(row.get("joined")))


def _adapt(engine: Engine, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Load or forget an adapter between two steps; the answer. Only engines with `adapters` are asked (registry.py)."""
    answer = {"type": "adapter", "turn": asked["turn"]}
    adapting: Any = engine
    try:
        if asked["src"] is None:
            adapting.unload_adapter(asked["name"])
        else:
            adapting.load_adapter(asked["name"], asked["src"])
    except Exception as error:  # the engine is sound: no row is computed meanwhile
        if not isinstance(error, RuntimeFault):
            traceback.print_exc()
        return answer | {"code": 507 if ran_out(error) else 424, "error": str(error) or type(error).__name__}
    return answer


def _load(engine: Engine) -> dict[str, float]:
    """What the engine says of itself beside the seam, for /metrics; an engine without `load` says nothing."""
    load = getattr(engine, "load", None)
    return {} if load is None else dict(load())
