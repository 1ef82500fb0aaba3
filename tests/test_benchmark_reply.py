"""A reply against the examples it answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift.benchmark.failure import InvocationFailed
from heavylift.benchmark.reply import read_reply, request_body
from heavylift.benchmark.workload import Example

BATCH = (Example("words", "write in words: 1", "one"), Example("roman", "write as a Roman numeral: 4", "IV"))
DETAILS = [
    {"finish_reason": "eos_token", "prompt_tokens": 6, "generated_tokens": 2},
    {"finish_reason": "length", "prompt_tokens": 7, "generated_tokens": 48},
]


def reply(**document: Any) -> bytes:
    return json.dumps(document).encode()


def test_a_request_asks_for_details() -> None:
    assert json.loads(request_body(BATCH)) == {
        "inputs": ["write in words: 1", "write as a Roman numeral: 4"],
        "parameters": {"max_new_tokens": 48, "details": True},
    }


def test_rows_keep_the_order_and_the_replys_own_counts() -> None:
    first, second = read_reply(reply(outputs=["one", "VI"], details=DETAILS), BATCH)

    assert (first.task, first.correct, first.output, first.prompt_tokens, first.generated_tokens) == (
        "words", True, "one", 6, 2,
    )  # fmt: skip
    assert (second.task, second.correct, second.finish_reason) == ("roman", False, "length")


def test_right_answers_in_the_wrong_order_are_wrong() -> None:
    rows = read_reply(reply(outputs=["IV", "one"]), BATCH)

    assert [row.correct for row in rows] == [False, False]


def test_the_space_between_a_prompt_and_what_goes_on_after_it_is_no_fault() -> None:
    rows = read_reply(reply(outputs=[" one", "I V"]), BATCH)

    assert [(row.correct, row.output) for row in rows] == [(True, " one"), (False, "I V")]


def test_a_reply_without_details_has_no_counts() -> None:
    rows = read_reply(reply(outputs=["one", "IV"]), BATCH)

    assert [(row.correct, row.prompt_tokens, row.generated_tokens) for row in rows] == [(True, None, None)] * 2


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"<html>", "the reply is not JSON"),
        (b"\xff\xfe\xfd", "the reply is not JSON"),
        (b"[" * 100_000, "the reply is not JSON"),
        (b"[]", "no 'outputs'"),
        (reply(outputs="one"), "no 'outputs'"),
        (reply(outputs=["one", 4]), "no 'outputs'"),
        (reply(outputs=["one"]), "1 outputs and 1 details for 2 inputs"),
        (reply(outputs=["one", "IV", "V"]), "3 outputs"),
        (reply(outputs=["one", "IV"], details=DETAILS[:1]), "2 outputs and 1 details for 2 inputs"),
        (reply(outputs=["one", "IV"], details="none"), "'details' is not a list"),
        (reply(outputs=["one", "IV"], details=[{}, {}]), "a row of the reply's 'details' is {}"),
        (reply(outputs=["one", "IV"], details=[DETAILS[0], {**DETAILS[1], "generated_tokens": True}]), "a row of"),
    ],
)
def test_a_reply_that_is_not_for_these_inputs_is_an_error(body: bytes, sentence: str) -> None:
    with pytest.raises(InvocationFailed) as caught:
        read_reply(body, BATCH)

    assert caught.value.kind == "reply"
    assert sentence in caught.value.message
