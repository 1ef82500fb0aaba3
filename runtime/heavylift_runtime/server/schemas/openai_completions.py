"""OpenAI's completions: texts or tokens as prompts, texts as answers. Not chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heavylift_runtime.engines.engine import Piece, Token
from heavylift_runtime.server.schemas.choices import MAX_ROWS
from heavylift_runtime.server.schemas.document import is_unicode
from heavylift_runtime.server.schemas.exchange import Defaults, Finished
from heavylift_runtime.server.schemas.fields import Fields
from heavylift_runtime.server.schemas.openai import Envelope, OpenAiExchange, read_asked, reason, refuse, shown_tokens
from heavylift_runtime.server.schemas.parameters import MOST_LOGPROBS
from heavylift_runtime.server.schemas.telling import finite, top_of

MAX_TOKENS = 16  # OpenAI's default for completions
LARGEST_TOKEN = 2**31 - 1
Prompt = str | tuple[int, ...]


@dataclass
class Completion(OpenAiExchange):
    """One request for completions; `echo` has the prompts that the answers begin with, or none."""

    echo: Sequence[str] = ()
    offsets: dict[int, int] = field(default_factory=dict)

    kind = part_kind = "text_completion"

    def choice(self, index: int, answer: Finished) -> dict[str, Any]:
        logprobs = self._logprobs(index, answer.tokens, answer.finish_reason)
        text = self._echo(index) + answer.text
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason(answer.finish_reason)}

    def parts(self, index: int, piece: Piece, first: bool) -> list[dict[str, Any]]:
        text = "".join(token.text for token in piece.tokens)
        text = self._echo(index) + text if first else text
        logprobs = self._logprobs(index, piece.tokens, piece.finish_reason)
        if not text and piece.finish_reason is None and logprobs is None:
            return []
        return [{"text": text, "logprobs": logprobs, "finish_reason": reason(piece.finish_reason)}]

    def _echo(self, index: int) -> str:
        return self.echo[index // self.asked.choices.n] if self.echo else ""

    def _logprobs(self, index: int, tokens: Sequence[Token], finish_reason: str | None) -> dict[str, Any] | None:
        most = self.asked.sampling.logprobs
        if most is None:
            return None
        shown = shown_tokens(tokens, finish_reason)
        offsets, at = [], self.offsets.get(index, 0)
        for token in shown:
            offsets.append(at)
            at += len(token.text)
        self.offsets[index] = at
        top = [{text: value for _, text, value in top_of(token, most)} for token in shown] if most else None
        return {
            "tokens": [token.text for token in shown],
            "token_logprobs": [finite(token.logprob) for token in shown],
            "top_logprobs": top,
            "text_offset": offsets,
        }


def read(document: Mapping[str, Any], defaults: Defaults) -> Completion:
    """The exchange; Refused (400) with every fault in one sentence."""
    faults: list[str] = []
    fields = Fields(document, "member", faults)
    prompts = _prompts(fields.value("prompt"), faults)
    most = fields.whole("max_tokens", low=1, high=defaults.most_new_tokens, default=MAX_TOKENS)
    logprobs = fields.whole("logprobs", low=0, high=MOST_LOGPROBS)
    asked = read_asked(fields, defaults, most, logprobs)
    echo = fields.flag("echo", default=False)
    if echo and (logprobs is not None or not all(isinstance(prompt, str) for prompt in prompts)):
        faults.append("'echo' is for texts without 'logprobs': the engines tell nothing of a prompt's tokens")
    fields.only("suffix", allowed=("",), why="a prompt is continued at its end")
    fields.rest()
    refuse(faults, len(prompts) * asked.choices.best_of)
    filled = [defaults.prompts.fill(prompt) if isinstance(prompt, str) else prompt for prompt in prompts]
    before = [prompt for prompt in prompts if isinstance(prompt, str)] if echo else []
    return Completion(asked.expand(filled), asked, Envelope.of("cmpl", defaults), echo=before)


def _prompts(given: Any, faults: list[str]) -> list[Prompt]:
    """A text, a list of texts, a list of tokens, or a list of those."""
    rows = given if isinstance(given, list) and not _is_tokens(given) else [given]
    if given is None:
        faults.append("'prompt' is missing: give a text, a list of texts, or tokens")
    elif not rows or len(rows) > MAX_ROWS:
        faults.append(f"'prompt' has {len(rows)} rows: 1 to {MAX_ROWS} in one request")
    elif all(isinstance(row, str) and row and is_unicode(row) for row in rows):
        return list(rows)
    elif all(_is_tokens(row) for row in rows):
        return [tuple(row) for row in rows]
    else:
        faults.append(
            f"'prompt' must be a text, tokens (whole numbers from 0 to {LARGEST_TOKEN}), or a list of one of "
            "these kinds, none of them empty"
        )
    return []


def _is_tokens(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(type(token) is int and 0 <= token <= LARGEST_TOKEN for token in value)
    )
