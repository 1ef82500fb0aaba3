"""Frames as the answers of asynchronous handlers: whole, in a batch, and as a stream. Not async_utils itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from djl_python import Input, Output
from djl_python.async_utils import create_non_stream_output, create_stream_chunk_output, handle_streaming_response
from heavylift_runtime.engines.handler import Handler, HandlerFault
from tests.test_handler import call


async def pieces() -> AsyncIterator[str]:
    for each in ("a", "b", "never"):
        await asyncio.sleep(0)
        yield each


def test_an_answer_of_one_frame_has_its_headers_and_its_body() -> None:
    async def handle(inputs: Input) -> Output:
        return create_non_stream_output({"text": inputs.get_as_string()}, properties={"X-Tea": "green"})

    (answer,) = Handler(handle, {}).answer([call(b"hello")])

    assert (answer.code, answer.body) == (200, b'{"text": "hello"}\n')
    assert answer.headers == {"Content-Type": "application/json", "X-Tea": "green"}


def test_a_frame_with_an_error_is_that_error_whole_or_first_of_a_stream() -> None:
    async def whole(inputs: Input) -> Output:
        return create_non_stream_output("", error="no tea", code=503)

    async def stream(inputs: Input) -> AsyncIterator[Output]:
        yield create_stream_chunk_output("", True, error="no tea", code=503)

    for handle in (whole, stream):
        with pytest.raises(HandlerFault, match="no tea") as fault:
            Handler(handle, {}).answer([call()])
        assert fault.value.code == 503


def test_an_error_in_a_batch_of_frames_is_its_clients_alone() -> None:
    def handle(inputs: Input) -> Output:
        good, bad = {"data": "a", "last": True}, {"data": "", "last": True, "code": 400, "error": "no tea"}
        outputs = Output().add(Output.binary_encode(good), key="data", batch_index=0)
        return outputs.add(Output.binary_encode(bad), key="data", batch_index=1)

    first, second = Handler(handle, {}).answer([call(), call()])

    assert (first.code, first.body) == (200, b"a")
    assert (second.code, b'"error": "no tea"' in second.body) == (400, True)


def test_an_asynchronous_generator_of_outputs_is_a_stream_that_ends_with_its_last_frame() -> None:
    def formatter(piece: str, end: str) -> tuple[str, bool]:
        return piece.upper(), piece == end

    async def handle(inputs: Input) -> Any:
        return handle_streaming_response(pieces(), formatter, end="b")

    (answer,) = Handler(handle, {}).answer([call()])

    assert answer.chunks is not None and list(answer.chunks) == [b"A\n", b"B\n"]
    assert answer.headers == {"Content-Type": "application/jsonlines"}


def test_an_error_in_the_middle_of_a_stream_of_outputs_ends_it() -> None:
    def formatter(piece: str) -> tuple[str, bool]:
        if piece == "b":
            raise ValueError("no tea")
        return piece, False

    (answer,) = Handler(lambda inputs: handle_streaming_response(pieces(), formatter), {}).answer([call()])

    assert answer.chunks is not None and next(answer.chunks) == b"a\n"
    with pytest.raises(HandlerFault, match="no tea"):
        next(answer.chunks)


def test_a_stream_of_anything_but_outputs_is_refused_and_one_of_nothing_is_204() -> None:
    async def nothing(inputs: Input) -> AsyncIterator[Output]:
        for each in ():
            yield each

    with pytest.raises(HandlerFault, match="must give Outputs: got str"):
        Handler(lambda inputs: pieces(), {}).answer([call()])
    assert Handler(nothing, {}).answer([call()])[0].code == 204
    with pytest.raises(HandlerFault, match="set batch_size=1"):
        Handler(lambda inputs: handle_streaming_response(pieces(), lambda piece: (piece, False)), {}).answer(
            [call(), call()]
        )
