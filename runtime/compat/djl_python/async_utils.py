"""Answers of an asynchronous handler, whole or in pieces: `Output`s of one frame each. Not the loop: the runtime's.

A handler returns one such Output, or an asynchronous generator of them. Names and defaults are djl-serving's
(engines/python, async_utils.py, v0.33 to v0.36); what it has there for its own adapters is not here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from djl_python.outputs import Output, to_json

_log = logging.getLogger("djl_python")


def create_non_stream_output(
    data: str | dict[str, Any],
    properties: Mapping[str, str] | None = None,
    error: str | None = None,
    code: int | None = None,
) -> Output:
    """A whole answer, with headers; or an error with its code (424 where there is none)."""
    output = _frame(data, True, "application/json", error, code)
    for name, value in (properties or {}).items():
        output.add_property(name, value)
    return output


def create_stream_chunk_output(
    data: str | dict[str, Any], last_chunk: bool, error: str | None = None, code: int | None = None
) -> Output:
    """A piece of a stream, a line; nothing is sent after the last one or an error."""
    return _frame(data, last_chunk, "application/jsonlines", error, code)


async def handle_streaming_response(
    response: AsyncIterator[Any],
    stream_output_formatter: Callable[..., Any],
    accumulate_chunks: bool = False,
    **kwargs: Any,
) -> AsyncIterator[Output]:
    """A stream of what a formatter makes of each piece: `formatter(piece, **kwargs)` gives the data and whether it is
    the last; with `accumulate_chunks` it is given `history=`, too, and gives it back as a third value."""
    history: Any = []
    async for chunk in response:
        try:
            if accumulate_chunks:
                data, last, history = stream_output_formatter(chunk, history=history, **kwargs)
            else:
                data, last = stream_output_formatter(chunk, **kwargs)
        except Exception as error:  # the formatter is the user's: its error is the stream's
            _log.exception("stream_output_formatter failed")
            yield create_stream_chunk_output("", True, error=str(error), code=424)
            return
        yield create_stream_chunk_output(data, last)
        if last:
            return


def _frame(data: str | dict[str, Any], last: bool, content_type: str, error: str | None, code: int | None) -> Output:
    text = to_json(data).decode() if isinstance(data, dict) else data
    told: dict[str, Any] = {"data": f"{text}\n", "last": last}
    told |= {name: value for name, value in (("error", error), ("code", code)) if value}
    output = Output(200 if code is None else code)
    return output.add_property("Content-Type", content_type).add(Output.binary_encode(told))
