"""Streams: every form that is read, cut at every byte, and each way to break. Not their transport."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift.benchmark.failure import InvocationFailed
from heavylift.benchmark.reply import streamed_row
from heavylift.benchmark.stream import Streamed, read_stream
from heavylift.benchmark.workload import Example

WORDS = ("Grüße", ", ", "\N{GRINNING FACE}", "!")


def lines(*events: Any) -> bytes:
    return b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events)


def server_sent(*events: Any, end: bytes = b"\n\n") -> bytes:
    return b"".join(b"data: " + json.dumps(event, ensure_ascii=False).encode() + end for event in events)


def tokens(last: dict[str, Any]) -> list[dict[str, Any]]:
    plain = [{"token": {"id": 3, "text": word, "log_prob": -0.5}} for word in WORDS[:-1]]
    return [*plain, {"token": {"id": 1, "text": WORDS[-1]}, **last}]


def chunk(delta: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, **choice}]}


DETAILS = {"finish_reason": "length", "generated_tokens": 4, "input_length": 7, "seed": None}
USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}}
END = {"token": {"id": 2, "text": "</s>", "special": True}, "generated_text": "".join(WORDS), "details": DETAILS}
FIXTURES = {
    "LMI, JSON lines": lines(*tokens({"generated_text": "".join(WORDS), "details": DETAILS})),
    "LMI, without a last line end": lines(*tokens({"details": DETAILS})).rstrip(b"\n"),
    "TGI, server-sent events": server_sent(*tokens({}), END),
    "TGI, without a blank after data:": server_sent(*tokens({}), END).replace(b"data: ", b"data:"),
    "events with CR LF and comments": b": ping\r\n\r\nevent: x\r\n" + server_sent(*tokens({}), END, end=b"\r\n\r\n"),
    "OpenAI chat": server_sent(
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": word}) for word in WORDS),
        chunk({}, finish_reason="length"),
        USAGE,
    )
    + b"data: [DONE]\n\n",
    "OpenAI completions": server_sent(
        *({"object": "text_completion", "choices": [{"index": 0, "text": word}]} for word in WORDS),
        {"choices": [{"index": 0, "text": "", "finish_reason": "length"}], "usage": USAGE["usage"] | {"x": 1}},
    )
    + b"data: [DONE]\n\n",
}


def said(streamed: Streamed) -> tuple[Any, ...]:
    counts = (streamed.prompt_tokens, streamed.generated_tokens, streamed.finish_reason)
    return (streamed.text, len(streamed.content_s), len(streamed.token_s), *counts)


@pytest.mark.parametrize("name", FIXTURES)
def test_a_stream_says_the_same_wherever_its_bytes_are_cut(name: str) -> None:
    whole = FIXTURES[name]

    once = said(read_stream([(1.0, whole)]))
    cut = {said(read_stream([(1.0, whole[:at]), (2.0, whole[at:])])) for at in range(len(whole) + 1)}
    bytewise = said(read_stream([(float(at), whole[at : at + 1]) for at in range(len(whole))]))

    assert once == ("".join(WORDS), 4, 4, 7, 4, "length")
    assert cut == {once} and bytewise == once


def test_a_tokens_time_is_that_of_the_part_that_completed_its_line() -> None:
    first, second, *rest = FIXTURES["LMI, JSON lines"].splitlines(keepends=True)

    parts = [(1.0, first[:9]), (2.0, first[9:] + second[:4]), (3.0, second[4:] + b"".join(rest))]

    assert read_stream(parts).content_s == [2.0, 3.0, 3.0, 3.0]


def test_roles_usage_and_special_tokens_are_not_content() -> None:
    parts = [(float(at), line + b"\n") for at, line in enumerate(FIXTURES["OpenAI chat"].split(b"\n"))]

    assert read_stream(parts).content_s == [2.0, 4.0, 6.0, 8.0]


def test_reasoning_is_generated_but_the_first_content_comes_after_it() -> None:
    thinking = chunk({"reasoning_content": "hm"})
    stream = server_sent(thinking, thinking, chunk({"content": "yes"}, finish_reason="stop"))

    streamed = read_stream([(float(at), line + b"\n") for at, line in enumerate(stream.split(b"\n"))])

    assert (streamed.content_s, streamed.token_s) == ([4.0], [0.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("stream", "kind", "sentence"),
    [
        (lines(*tokens({})), "stream", "ended without a finish reason"),
        (b"", "stream", "ended without a finish reason"),
        (lines({"error": "out of memory", "code": 424}), "stream", "out of memory"),
        (server_sent({"error": {"message": "too long", "type": "BadRequest"}}), "stream", "too long"),
        (lines(*tokens({"details": {"finish_reason": "error"}})), "stream", "'error'"),
        (b"<html>\n", "reply", "not JSON"),
        (b'{"token": {"text": "a"}}\n{"tok', "reply", "not JSON"),
        (b"\xff\xfe\n", "reply", "not UTF-8"),
        (b"[1]\n", "reply", "is [1]"),
        (lines({"moon": 1}), "reply", "has no token"),
    ],
)
def test_a_stream_that_breaks_is_a_failure_with_its_kind(stream: bytes, kind: str, sentence: str) -> None:
    with pytest.raises(InvocationFailed) as caught:
        read_stream([(0.0, stream)])

    assert caught.value.kind == kind
    assert sentence in caught.value.message


def test_a_streamed_answer_is_compared_like_any_other() -> None:
    streamed = read_stream([(0.0, FIXTURES["OpenAI chat"])])

    right = streamed_row(streamed, Example("greet", "hello", "".join(WORDS), number=5))
    wrong = streamed_row(streamed, Example("greet", "hello", "Grüße"))

    assert (right.correct, right.generated_tokens, right.example, right.fault) == (True, 4, 5, None)
    assert wrong.correct is False
