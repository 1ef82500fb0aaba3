"""The request's schema: precise refusals, nothing ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_runtime.server.invocation import MAX_ROWS, Invocation, read_invocation
from heavylift_runtime.server.refused import Refused


def refusal(body: object) -> str:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Refused) as caught:
        read_invocation(data, 64)
    assert caught.value.code == 400
    return caught.value.sentence


def test_a_text_is_one_row_with_the_default_length() -> None:
    assert read_invocation(b'{"inputs": "hello"}', 64) == Invocation(("hello",), 64, False)


def test_a_list_is_a_row_for_each_text() -> None:
    body = {"inputs": ["a", "b"], "parameters": {"max_new_tokens": 7, "details": True}, "stream": False}

    assert read_invocation(json.dumps(body).encode(), 64) == Invocation(("a", "b"), 7, True)


@pytest.mark.parametrize(
    ("parameter", "value"), [("do_sample", False), ("temperature", 0), ("temperature", 1.0), ("top_p", 1), ("n", 1)]
)
def test_a_parameter_that_asks_for_what_greedy_decoding_does_is_accepted(parameter: str, value: Any) -> None:
    body = {"inputs": "a", "parameters": {parameter: value}}

    assert read_invocation(json.dumps(body).encode(), 64).prompts == ("a",)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is not JSON"),
        (b"\xff", "the body is not UTF-8: invalid start byte at byte 0"),
        (b"[" * 200_000, "the body is not JSON: it is nested too deeply"),
        (b'{"inputs": "a", "parameters": {"max_new_tokens": ' + b"9" * 5000 + b"}}", "the body is not JSON"),
        ([], "the body must be a JSON object"),
        (None, "got null"),
        ({}, "'inputs' is missing"),
        ({"inputs": 3}, "'inputs' must be a text or a list of texts: got a number"),
        ({"inputs": []}, "'inputs' is an empty list"),
        ({"inputs": ""}, "'inputs' is empty"),
        ({"inputs": ["a", 1]}, "inputs[1] must be a text: got a number"),
        ({"inputs": ["a"] * (MAX_ROWS + 1)}, f"'inputs' has {MAX_ROWS + 1} texts: at most {MAX_ROWS} in one request"),
        (b'{"inputs": "\\ud800"}', "half of a surrogate pair"),
        ({"inputs": "a", "parametres": {}}, "unknown member \"parametres\": did you mean 'parameters'?"),
        ({"inputs": "a", "stream": True}, "'stream' must be false"),
        ({"inputs": "a", "parameters": []}, "'parameters' must be an object: got a list"),
        ({"inputs": "a", "parameters": {"max_tokens": 3}}, "did you mean 'max_new_tokens'?"),
        ({"inputs": "a", "parameters": {"max_new_tokens": 0}}, "from 1 to 1024: got 0"),
        ({"inputs": "a", "parameters": {"max_new_tokens": True}}, "from 1 to 1024: got true"),
        ({"inputs": "a", "parameters": {"max_new_tokens": 1.0}}, "from 1 to 1024: got 1.0"),
        ({"inputs": "a", "parameters": {"details": 1}}, "'details' must be true or false: got 1"),
        ({"inputs": "a", "parameters": {"do_sample": True}}, "'do_sample' must be false"),
        ({"inputs": "a", "parameters": {"do_sample": 0}}, "'do_sample' must be false"),
        ({"inputs": "a", "parameters": {"temperature": 0.7}}, "'temperature' must be 0 or 1"),
        ({"inputs": "a", "parameters": {"temperature": True}}, "'temperature' must be 0 or 1"),
        (b'{"inputs": "a", "parameters": {"temperature": NaN}}', "'temperature' must be 0 or 1"),
    ],
)
def test_a_wrong_request_is_refused_with_the_reason(body: object, sentence: str) -> None:
    assert sentence in refusal(body)


def test_all_faults_come_at_once() -> None:
    sentence = refusal({"inputs": 1, "stream": 1, "parameters": {"details": 1, "top_k": 2}})

    assert sentence.count(";") == 3


_JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists)


def test_a_million_wrong_names_are_refused_quickly_and_briefly() -> None:
    names = {f"name_{number}": 0 for number in range(200_000)}

    assert len(refusal({"inputs": "a", "parameters": names} | names)) < 20_000


@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps({"inputs": value}).encode()))
def test_any_bytes_are_an_invocation_or_a_refusal(body: bytes) -> None:
    try:
        found = read_invocation(body, 64)
    except Refused as refused:
        assert refused.code == 400 and refused.sentence
    else:
        assert found.prompts and all(found.prompts)
