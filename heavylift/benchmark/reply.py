"""A runtime's reply to a batch, checked and compared with the right answers.

Not its transport (client.py). The token counts are the reply's own; a reply without details has none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from heavylift.benchmark.client import InvocationFailed
from heavylift.benchmark.samples import Row
from heavylift.benchmark.workload import Example

MAX_NEW_TOKENS = 48


def request_body(batch: Sequence[Example]) -> bytes:
    """The JSON of one request for a batch."""
    parameters = {"max_new_tokens": MAX_NEW_TOKENS, "details": True}
    return json.dumps({"inputs": [example.input for example in batch], "parameters": parameters}).encode()


def unanswered(batch: Sequence[Example]) -> tuple[Row, ...]:
    """The rows of a request that failed: due, and wrong."""
    return tuple(Row(example.task, None, None, None, False, None) for example in batch)


def read_reply(body: bytes, batch: Sequence[Example]) -> tuple[Row, ...]:
    """One row for each example, in order. Raises InvocationFailed (kind `reply`) for what is not such a reply."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvocationFailed("reply", f"the reply is not JSON: {error}", 200) from None
    outputs = document.get("outputs") if isinstance(document, dict) else None
    if not isinstance(outputs, list) or not all(isinstance(output, str) for output in outputs):
        raise InvocationFailed("reply", "the reply has no 'outputs' that is a list of strings", 200)
    details = document.get("details")
    counts = [(None, None, None)] * len(outputs) if details is None else [_count(detail) for detail in _rows(details)]
    if not len(outputs) == len(counts) == len(batch):
        message = f"the reply has {len(outputs)} outputs and {len(counts)} details for {len(batch)} inputs"
        raise InvocationFailed("reply", message, 200)
    return tuple(
        Row(example.task, prompt, generated, reason, output == example.answer, output)
        for example, output, (prompt, generated, reason) in zip(batch, outputs, counts, strict=True)
    )


def _rows(details: Any) -> list[Any]:
    if not isinstance(details, list):
        raise InvocationFailed("reply", "the reply's 'details' is not a list", 200)
    return details


def _count(detail: Any) -> tuple[int | None, int | None, str | None]:
    """(prompt tokens, generated tokens, finish reason) of one row of details."""
    fields = ("prompt_tokens", "generated_tokens")
    counted = isinstance(detail, dict) and all(type(detail.get(key)) is int and detail[key] >= 0 for key in fields)
    if not counted or not isinstance(detail.get("finish_reason"), str | None):
        raise InvocationFailed("reply", f"a row of the reply's 'details' is {json.dumps(detail)[:200]}", 200)
    return detail["prompt_tokens"], detail["generated_tokens"], detail.get("finish_reason")
