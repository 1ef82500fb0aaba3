"""The benchmark's clients read what the schemas write: whole replies, and streams cut at every byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift.benchmark.failure import InvocationFailed
from heavylift.benchmark.reply import read_reply, request_body, streamed_row
from heavylift.benchmark.stream import read_stream
from heavylift.benchmark.workload import Example
from heavylift_runtime.server.schemas import Defaults, Exchange, read
from tests.schema_pieces import TEXTS, finished, pieces, streamed

TEXT = "".join(TEXTS)
EXAMPLE = Example("words", "seventy-one?", TEXT)
APIS = {
    "heavylift": "/invocations",
    "tgi": "/generate",
    "openai-chat": "/v1/chat/completions",
    "openai-completions": "/v1/completions",
}
COMPATS = [("heavylift", "none"), ("heavylift", "latest"), *[(api, "none") for api in APIS if api != "heavylift"]]


def asked(api: str, compat: Any = "none", **arguments: Any) -> Exchange:
    return read(APIS[api], {}, request_body([EXAMPLE], api=api, **arguments), Defaults(lmi_compat=compat))


@pytest.mark.parametrize("api", APIS)
def test_a_whole_reply_is_read_as_it_was_meant(api: str) -> None:
    exchange = asked(api)

    (row,) = read_reply(exchange.reply([finished()]), [EXAMPLE], api)

    assert row.correct and row.output == TEXT
    assert (row.prompt_tokens, row.generated_tokens) == (5, 7)
    assert row.finish_reason == ("stop" if api.startswith("openai") else "eos_token")


@pytest.mark.parametrize(("api", "compat"), COMPATS)
def test_a_stream_cut_at_any_byte_is_read_as_it_was_meant(api: str, compat: str) -> None:
    stream = streamed(asked(api, compat, stream=True))

    for cut in range(len(stream) + 1):
        heard = read_stream([(0.0, stream[:cut]), (1.0, stream[cut:])])

        row = streamed_row(heard, EXAMPLE)
        assert row.correct, (cut, row.output)
        assert (row.prompt_tokens, row.generated_tokens) == (5, 7)
        assert len(heard.content_s) == sum(1 for text in TEXTS if text)


@pytest.mark.parametrize(("api", "compat"), COMPATS)
def test_a_stream_that_comes_byte_by_byte_is_read_as_it_was_meant(api: str, compat: str) -> None:
    stream = streamed(asked(api, compat, stream=True))

    heard = read_stream((float(at), stream[at : at + 1]) for at in range(len(stream)))

    assert streamed_row(heard, EXAMPLE).correct


@pytest.mark.parametrize(("api", "compat"), [*COMPATS, ("heavylift", "0.23")])
def test_a_stream_that_breaks_is_told_apart_from_one_that_ends(api: str, compat: str) -> None:
    exchange = asked(api, compat, stream=True)
    stream = exchange.event(0, pieces()[0]) + exchange.broken(507, "no memory")

    with pytest.raises(InvocationFailed, match="no memory") as caught:
        read_stream([(0.0, stream)])

    assert caught.value.kind == "stream"


@pytest.mark.parametrize(("api", "compat"), COMPATS)
def test_a_stream_that_is_cut_off_is_no_answer(api: str, compat: str) -> None:
    stream = streamed(asked(api, compat, stream=True), pieces()[:-1]).removesuffix(b"data: [DONE]\n\n")

    with pytest.raises(InvocationFailed, match="without a finish reason"):
        read_stream([(0.0, stream)])


def test_a_stream_has_characters_of_several_bytes_as_they_are() -> None:
    stream = streamed(asked("heavylift", stream=True))

    assert "🙂".encode() in stream and all(json.loads(line) for line in stream.splitlines())
