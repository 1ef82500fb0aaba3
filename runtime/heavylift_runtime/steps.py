"""Rank 0's loop over an engine that steps: hear the server, step, send what came. Not the process: worker.py.

    from the server   submit {rows: [{key, request, stream}]} · cancel {keys} · adapter {turn, name, src or null} · stop
    to the server     pieces {pieces, load?} (all of one step, or none, while only such come as are kept; pieces.py;
                      none, too, as the answer to a cancel: a copy that does not give it is stuck)
                      refused {key, code, error}
                      adapter {turn, code?, error?}

A row that does not stream costs the server two pieces, whatever its length: its first token, so that the time to it is
known, and all others with its end.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from heavylift_runtime.engines.engine import Engine, Piece, Request, Token
from heavylift_runtime.errors import PromptError, RuntimeFault, ran_out
from heavylift_runtime.pieces import pack
from heavylift_runtime.wire import Channel

_LOAD_SECONDS = 0.25  # between two reports of the engine's load; one more where it has nothing left to do


def roll(engine: Engine, channel: Channel) -> None:
    """Until the server says stop. What `step` raises is not caught: the engine's state is unknown, the copy ends."""
    folds: dict[int, _Fold] = {}
    told = 0.0
    while True:
        while (message := channel.poll() if engine.busy else channel.receive()) is not None:
            if message.type == "stop":
                return
            if message.type == "submit":
                for row in message.header["rows"]:
                    _add(engine, channel, row, folds)
            elif message.type == "cancel":
                for key in message.header["keys"]:
                    engine.cancel(key)
                    folds.pop(key, None)
                channel.send({"type": "pieces", "pieces": [], "load": _load(engine)})
            elif message.type == "adapter":
                channel.send(_adapt(engine, message.header))
        pieces = []
        for piece in engine.step():
            fold = folds.get(piece.key)
            if fold is not None:
                if piece.last:
                    del folds[piece.key]
                elif not fold.opens(piece):
                    continue
                piece = fold.whole(piece)
            pieces.append(pack(piece))
        now = time.monotonic()
        due = now - told >= _LOAD_SECONDS
        if not pieces and not due:
            continue
        news: dict[str, Any] = {"type": "pieces", "pieces": pieces}
        if due or not engine.busy:
            news["load"], told = _load(engine), now
        channel.send(news)


class _Fold:
    """The tokens of a row that are kept until its end."""

    def __init__(self) -> None:
        self._tokens: list[Token] = []
        self._opened = False

    def opens(self, piece: Piece) -> bool:
        """The first piece goes out at once; the tokens of all others are kept."""
        if not self._opened:
            self._opened = True
            return True
        self._tokens += piece.tokens
        return False

    def whole(self, piece: Piece) -> Piece:
        """The piece with what was kept before it."""
        kept, self._tokens = self._tokens, []
        return replace(piece, tokens=(*kept, *piece.tokens)) if kept else piece


def _add(engine: Engine, channel: Channel, row: Mapping[str, Any], folds: dict[int, _Fold]) -> None:
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
        if not row["stream"]:
            folds[key] = _Fold()


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
