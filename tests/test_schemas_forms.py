"""Answers bound to a form: how LMI, TGI and OpenAI ask for one, where the engine has it; and every fault of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift_runtime.engines.engine import Form, Sampling
from heavylift_runtime.server.schemas import Defaults, Misread, read

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
JSON_FORM = Form("json_schema", json.dumps(SCHEMA))
CHAT = {"messages": [{"role": "user", "content": "a"}]}


def form(path: str, body: dict[str, Any]) -> Form | None:
    exchange = read(path, {}, json.dumps(body).encode(), Defaults(structured=True))
    return exchange.requests[0].sampling.form


@pytest.mark.parametrize(
    ("grammar", "expected"),
    [
        (None, None),
        ({"type": "json", "value": SCHEMA}, JSON_FORM),
        ({"type": "json", "value": json.dumps(SCHEMA)}, JSON_FORM),
        ({"type": "json_schema", "value": {"name": "x", "schema": SCHEMA}}, JSON_FORM),
        ({"type": "json_object"}, Form("json_object")),
        ({"type": "regex", "value": "[a-z]+"}, Form("regex", "[a-z]+")),
        ({"type": "grammar", "value": 'root ::= "a"'}, Form("grammar", 'root ::= "a"')),
    ],
)
def test_lmi_and_tgi_ask_with_a_grammar(grammar: object, expected: Form | None) -> None:
    for path in ("/invocations", "/generate"):
        assert form(path, {"inputs": "a", "parameters": {"grammar": grammar}}) == expected
        assert form(path, {"inputs": "a", "parameters": {"guidance": grammar}}) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Form("json_object")),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
                }
            },
            JSON_FORM,
        ),
        ({"structured_outputs": {"json": SCHEMA}}, JSON_FORM),
        ({"structured_outputs": {"json_object": True}}, Form("json_object")),
        ({"structured_outputs": {"regex": "a|b"}}, Form("regex", "a|b")),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, Form("choice", '["yes", "no"]')),
    ],
)
def test_openai_asks_with_a_response_format_or_vllms_structured_outputs(
    asked: dict[str, Any], expected: Form | None
) -> None:
    assert form("/v1/chat/completions", CHAT | asked) == expected
    assert form("/v1/completions", {"prompt": "a"} | asked) == expected


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            {"response_format": "json"},
            "must be an object whose 'type' is text, json_object, json_schema",
        ),
        ({"response_format": {"type": "yaml"}}, 'json_schema: got "yaml"'),
        ({"response_format": {"type": "json_schema"}}, "must be a JSON schema, an object of at most 65536 characters"),
        ({"response_format": {"type": "json_object", "of": 1}}, 'unknown member of response_format "of"'),
        ({"structured_outputs": {}}, "must be an object with one of json, json_object, regex, grammar, choice"),
        ({"structured_outputs": {"json": SCHEMA, "regex": "a"}}, "must be an object with one of"),
        ({"structured_outputs": {"json": "{"}}, "must be a JSON schema"),
        ({"structured_outputs": {"json_object": False}}, "must be true: got false"),
        ({"structured_outputs": {"regex": ""}}, "must be a text of 1 to 65536 characters"),
        ({"structured_outputs": {"choice": []}}, "must be 1 to 256 texts, none of them empty"),
        ({"structured_outputs": {"choice": ["a", 3]}}, "must be 1 to 256 texts"),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "are two forms of one answer: give one",
        ),
    ],
)
def test_a_form_that_is_none_is_refused_with_the_reason(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Misread) as caught:
        form("/v1/chat/completions", CHAT | asked)

    assert sentence in caught.value.sentence


def test_a_schema_nested_without_end_is_refused() -> None:
    deep = "[" * 5000 + "]" * 5000
    body = f'{{"inputs": "a", "parameters": {{"grammar": {{"type": "json", "value": {{"a": {deep}}}}}}}}}'

    with pytest.raises(Misread):
        read("/invocations", {}, body.encode(), Defaults(structured=True))


def test_an_engine_that_has_no_forms_refuses_all_of_them() -> None:
    for path, body in (
        ("/invocations", {"inputs": "a", "parameters": {"grammar": {"type": "json_object"}}}),
        ("/v1/completions", {"prompt": "a", "structured_outputs": {"regex": "a"}}),
        ("/v1/completions", {"prompt": "a", "response_format": {"type": "json_object"}}),
    ):
        with pytest.raises(Misread, match="answers are not bound to a"):
            read(path, {}, json.dumps(body).encode(), Defaults())


def test_a_form_crosses_the_socket_as_it_is() -> None:
    for given in (None, JSON_FORM, Form("json_object")):
        sampling = Sampling(5, form=given)

        assert Sampling.from_json(json.loads(json.dumps(sampling.to_json()))) == sampling
