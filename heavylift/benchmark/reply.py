"""What is asked in each API's own form, and a reply checked and compared with the right answers.

Not its transport (client.py) nor a stream's bytes (stream.py). The token counts are the reply's own; a reply without
details has none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from heavylift.benchmark.degenerate import degenerate
from heavylift.benchmark.failure import InvocationFailed
from heavylift.benchmark.samples import Row
from heavylift.benchmark.stream import MOST_TOKENS, Streamed
from heavylift.benchmark.workload import Example

MAX_NEW_TOKENS = 48
Counts = tuple[int | None, int | None, str | None]


def request_body(
    batch: Sequence[Example], *, api: str = "heavylift", stream: bool = False, model: str | None = None
) -> bytes:
    """The JSON of one request for a batch; of one example where the API, or a stream, takes one prompt."""
    most = max(MAX_NEW_TOKENS if each.new_tokens is None else each.new_tokens for each in batch)
    texts = [each.input for each in batch]
    if api.startswith("openai"):
        chat = {"messages": [{"role": "user", "content": texts[0]}]}
        document: dict[str, Any] = chat if api == "openai-chat" else {"prompt": texts[0]}
        document |= {"max_tokens": most, "temperature": 0}
        document |= {} if model is None else {"model": model}
        document |= {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    else:
        document = {"inputs": texts if api == "heavylift" and not stream else texts[0]}
        document |= {"parameters": {"max_new_tokens": most, "details": True}}
        document |= {"stream": True} if stream else {}
    return json.dumps(document).encode()


def unanswered(batch: Sequence[Example]) -> tuple[Row, ...]:
    """The rows of a request that failed: due, and wrong where there is a right answer."""
    return tuple(
        Row(each.task, None, None, None, None if each.answer is None else False, None, each.number) for each in batch
    )


def read_reply(body: bytes, batch: Sequence[Example], api: str = "heavylift") -> tuple[Row, ...]:
    """One row for each example, in order. Raises InvocationFailed (kind `reply`) for what is not such a reply."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the reply is not JSON: {error}") from None
    if api == "tgi":
        return (_generated(document, batch[0]),)
    if api != "heavylift":
        return (_chosen(document, batch[0]),)
    outputs = document.get("outputs") if isinstance(document, dict) else None
    if not isinstance(outputs, list) or not all(isinstance(output, str) for output in outputs):
        raise _bad("the reply has no 'outputs' that is a list of strings")
    details = document.get("details")
    counts = [(None, None, None)] * len(outputs) if details is None else [_count(detail) for detail in _rows(details)]
    if not len(outputs) == len(counts) == len(batch):
        raise _bad(f"the reply has {len(outputs)} outputs and {len(counts)} details for {len(batch)} inputs")
    return tuple(_row(*each) for each in zip(batch, outputs, counts, strict=True))


def streamed_row(streamed: Streamed, example: Example) -> Row:
    """The row of a streamed answer."""
    counts = streamed.prompt_tokens, streamed.generated_tokens, streamed.finish_reason
    return _row(example, streamed.text, counts)


def _row(example: Example, output: str, counts: Counts) -> Row:
    prompt, generated, reason = counts
    # a decoder-only model goes on after the prompt: its answer begins with the space between the two
    correct = None if example.answer is None else output.strip() == example.answer.strip()
    fault = None if correct else degenerate(example.input, output)
    return Row(example.task, prompt, generated, reason, correct, output, example.number, fault)


def _generated(document: Any, example: Example) -> Row:
    """TGI's and LMI's `generated_text`, alone or in a list of one."""
    answer = document[0] if isinstance(document, list) and len(document) == 1 else document
    if not isinstance(answer, dict) or not isinstance(answer.get("generated_text"), str):
        raise _bad("the reply has no 'generated_text'")
    details = answer.get("details")
    details = details if isinstance(details, dict) else {}
    counts = _whole(details, "input_length"), _whole(details, "generated_tokens"), details.get("finish_reason")
    return _row(example, answer["generated_text"], counts)


def _chosen(document: Any, example: Example) -> Row:
    """OpenAI's first choice."""
    choices = document.get("choices") if isinstance(document, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    if not isinstance(text, str):
        raise _bad("the reply has no choice with a text")
    usage = document["usage"] if isinstance(document.get("usage"), dict) else {}
    counts = _whole(usage, "prompt_tokens"), _whole(usage, "completion_tokens"), choice.get("finish_reason")
    return _row(example, text, counts)


def _whole(counts: dict[str, Any], key: str) -> int | None:
    return counts[key] if type(counts.get(key)) is int and 0 <= counts[key] <= MOST_TOKENS else None


def _rows(details: Any) -> list[Any]:
    if not isinstance(details, list):
        raise _bad("the reply's 'details' is not a list")
    return details


def _count(detail: Any) -> Counts:
    """(prompt tokens, generated tokens, finish reason) of one row of details."""
    fields = ("prompt_tokens", "generated_tokens")
    counted = isinstance(detail, dict) and all(
        type(detail.get(key)) is int and 0 <= detail[key] <= MOST_TOKENS for key in fields
    )
    if not counted or not isinstance(detail.get("finish_reason"), str | None):
        raise _bad(f"a row of the reply's 'details' is {json.dumps(detail)[:200]}")
    return detail["prompt_tokens"], detail["generated_tokens"], detail.get("finish_reason")


def _bad(message: str) -> InvocationFailed:
    return InvocationFailed("reply", message, 200)
