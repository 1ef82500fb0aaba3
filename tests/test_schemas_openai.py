"""OpenAI's chat and completions: prompts, tokens, choices, chunks, usage, log-probabilities, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.server.schemas import Defaults, Exchange, Misread, failure, read
from tests.schema_pieces import TEXTS, finished, pieces, streamed

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TEXT = "".join(TEXTS)
USER = [{"role": "user", "content": "hello"}]
HEAD = {"id": "cmpl-abc", "created": 1_700_000_000, "model": "tiny"}


def exchange(path: str, **body: Any) -> Exchange:
    defaults = Defaults(
        model="tiny", adapters=frozenset({"french"}), clock=lambda: 1_700_000_000.9, identity=lambda: "abc"
    )
    return read(path, {}, json.dumps(body).encode(), defaults)


def refusal(path: str, **body: Any) -> str:
    with pytest.raises(Misread) as caught:
        exchange(path, **body)
    error = json.loads(caught.value.answer.body)["error"]
    assert caught.value.answer.status == 400
    assert error["type"] == "invalid_request_error" and error["code"] == 400
    return str(error["message"])


def events(stream: bytes) -> list[Any]:
    *frames, done, rest = stream.decode().split("\n\n")
    assert done == "data: [DONE]" and rest == ""
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def test_a_completion_is_drawn_at_temperature_1_and_has_16_tokens_unless_told_otherwise() -> None:
    found = exchange(COMPLETIONS, prompt="a")

    assert found.requests == (Request("a", Sampling(16, temperature=1.0)),)


def test_a_completions_reply_has_a_choice_for_each_prompt_and_its_usage() -> None:
    found = exchange(COMPLETIONS, prompt=["a", "b"], n=2, echo=True)

    document = json.loads(found.reply([finished(["x"]), finished(["y"], reason="length"), finished(), finished()]))

    assert {name: document[name] for name in HEAD} == HEAD and document["object"] == "text_completion"
    assert [choice["index"] for choice in document["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in document["choices"]] == ["ax", "ay", "b" + TEXT, "b" + TEXT]
    assert [choice["finish_reason"] for choice in document["choices"]] == ["stop", "length", "stop", "stop"]
    assert document["usage"] == {"prompt_tokens": 10, "completion_tokens": 17, "total_tokens": 27}


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [([1, 2, 3], [(1, 2, 3)]), ([[1], [2, 3]], [(1,), (2, 3)]), (["a", "b"], ["a", "b"]), ("a", ["a"])],
)
def test_prompts_are_texts_or_tokens(prompt: Any, prompts: list[Any]) -> None:
    assert [request.prompt for request in exchange(COMPLETIONS, prompt=prompt).requests] == prompts


@pytest.mark.parametrize(
    "prompt", [[], [[]], "", [""], [1, "a"], [[1], "a"], [-1], [2**31], [1.0], {}, 3, [None], [True]]
)
def test_other_prompts_are_refused(prompt: Any) -> None:
    assert "'prompt'" in refusal(COMPLETIONS, prompt=prompt)


def test_completions_tell_log_probabilities_and_where_each_token_stands() -> None:
    found = exchange(COMPLETIONS, prompt="a", logprobs=2)

    (choice,) = json.loads(found.reply([finished(["ab", "c"])]))["choices"]

    assert choice["logprobs"] == {
        "tokens": ["ab", "c"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"ab": -0.5, "else": -9999.0}, {"c": -0.5, "else": -9999.0}],
        "text_offset": [0, 2],
    }


def test_a_chat_has_a_message_and_every_token_with_its_bytes() -> None:
    found = exchange(CHAT, messages=USER, logprobs=True, top_logprobs=1, max_completion_tokens=9, seed=-1)

    (choice,) = json.loads(found.reply([finished(["é"])]))["choices"]

    assert found.requests == (Request("hello", Sampling(9, temperature=1.0, seed=2**64 - 1, logprobs=1)),)
    assert choice["message"] == {"role": "assistant", "content": "é", "refusal": None}
    token = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    assert choice["logprobs"] == {"content": [token | {"top_logprobs": [token]}], "refusal": None}


def test_a_streamed_chat_begins_with_its_role_and_ends_with_its_usage() -> None:
    found = exchange(CHAT, messages=USER, stream=True, stream_options={"include_usage": True})

    first, *parts, last, usage = events(streamed(found))

    assert found.media_type == "text/event-stream"
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert "".join(part["choices"][0]["delta"]["content"] for part in parts) == TEXT
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert all(part["object"] == "chat.completion.chunk" and part["usage"] is None for part in parts)
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def test_streamed_choices_come_as_they_are_made_and_count_a_prompt_once() -> None:
    found = exchange(COMPLETIONS, prompt="a", n=2, stream=True, stream_options={"include_usage": True})
    one, two = pieces(["x"]), pieces(["y"])

    stream = b"".join(
        found.event(index, piece) for index, piece in [(1, two[0]), (0, one[0]), (0, one[1]), (1, two[1])]
    )
    *parts, usage = events(stream + found.end())

    choices = [part["choices"][0] for part in parts]
    assert [(choice["index"], choice["text"], choice["finish_reason"]) for choice in choices] == [
        (1, "y", None), (0, "x", None), (0, "", "stop"), (1, "", "stop"),
    ]  # fmt: skip
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}


def test_a_stream_without_options_tells_no_usage() -> None:
    found = exchange(COMPLETIONS, prompt="a", stream=True)

    assert all("usage" not in event for event in events(streamed(found)))


def test_a_stream_that_breaks_ends_with_an_error_and_is_not_done() -> None:
    frame = exchange(CHAT, messages=USER, stream=True).broken(507, "no memory")

    error = json.loads(frame.removeprefix(b"data: "))["error"]
    assert error == {"message": "no memory", "type": "server_error", "param": None, "code": 507}


def test_the_model_may_name_an_adapter_and_any_other_name_is_the_model() -> None:
    assert exchange(COMPLETIONS, prompt="a", model="french").requests[0].adapter == "french"
    assert exchange(COMPLETIONS, prompt="a", model="gpt-5").requests[0].adapter is None


def test_a_content_of_parts_is_joined_and_a_developer_speaks_as_the_system() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]

    assert exchange(CHAT, messages=[{"role": "user", "content": parts}]).requests[0].prompt == "one\ntwo"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "'messages' must be a list of 1 to 2048 messages: got null"),
        ({"messages": []}, "got 0 of them"),
        ({"messages": [3]}, "messages[0] must be an object: got a number"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0]: 'role' must be system, developer, user"),
        ({"messages": [{"role": "user"}]}, "messages[0]: 'content' must be a text: got null"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 'type "text" only: got "image_url"'),
        ({"messages": [{"role": "user", "content": "a", "contents": "b"}]}, "did you mean 'content'?"),
        ({"messages": USER, "max_tokens": 0}, "'max_tokens' must be a whole number from 1 to 4096: got 0"),
        ({"messages": USER, "max_tokens": 1, "max_completion_tokens": 2}, "are the same thing and must be equal"),
        ({"messages": USER, "top_logprobs": 2}, "'top_logprobs' needs 'logprobs': true"),
        ({"messages": USER, "tools": [{"type": "function"}]}, "'tools' must be [] or null"),
        ({"messages": USER, "response_format": {"type": "json_object"}}, "answers are not bound to a form"),
        ({"messages": USER, "temperature": 3}, "'temperature' must be a number from 0 to 2: got 3"),
        ({"messages": USER, "stream_options": {"include_usage": True}}, "'stream_options' is for streams"),
        ({"messages": USER, "stream": True, "stream_options": 3}, "'stream_options' must be an object"),
        ({"messages": USER, "stream": True, "best_of": 2}, "'best_of' above 'n' cannot be streamed"),
        ({"messages": USER, "logit_bias": {"5": 3}}, "'logit_bias' must be {} or null"),
        ({"messages": USER, "tempreature": 1}, "did you mean 'temperature'?"),
    ],
)
def test_a_wrong_chat_is_refused_with_the_reason(body: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(CHAT, **body)


def test_what_is_null_or_turned_off_was_not_asked_for() -> None:
    assert exchange(CHAT, messages=USER, logprobs=False, top_logprobs=0).requests[0].sampling.logprobs is None
    assert exchange(CHAT, messages=USER, prompt=None, guided_json=None).requests
    assert exchange("/invocations", inputs="hi", messages=None).requests[0].prompt == "hi"
    assert exchange("/invocations", prompt="hi", inputs=None, messages=None).requests[0].prompt == "hi"
    assert "'messages' must be a list" in refusal("/invocations", messages=None)


def test_sagemakers_one_door_takes_both() -> None:
    chat = exchange("/invocations", messages=USER)
    completion = exchange("/invocations", prompt="a")

    assert json.loads(chat.reply([finished()]))["object"] == "chat.completion"
    assert json.loads(completion.reply([finished()]))["object"] == "text_completion"


@pytest.mark.parametrize(
    ("code", "kind"), [(429, "rate_limit_error"), (503, "server_error"), (413, "invalid_request_error")]
)
def test_what_goes_wrong_before_reading_has_openais_shape(code: int, kind: str) -> None:
    answer = failure(CHAT, code, "no", Defaults())

    assert answer.status == code and json.loads(answer.body)["error"]["type"] == kind
