"""OpenAI's chat completions: a conversation in, the assistant's next message out. No tools, no pictures, no sound.

The conversation becomes one prompt by the model's chat template: prompts.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heavylift_runtime.engines.engine import Piece, Token
from heavylift_runtime.server.schemas.document import is_unicode, kind, shown
from heavylift_runtime.server.schemas.exchange import Defaults, Finished
from heavylift_runtime.server.schemas.fields import MOST_FAULTS, Fields
from heavylift_runtime.server.schemas.openai import Envelope, OpenAiExchange, read_asked, reason, refuse, shown_tokens
from heavylift_runtime.server.schemas.parameters import MOST_LOGPROBS
from heavylift_runtime.server.schemas.telling import finite, top_of

MOST_MESSAGES = 2048
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_CARRIED = ("name", "tool_calls", "tool_call_id")  # members of a message that templates may read
_ECHOED = ("refusal", "annotations", "audio", "function_call", "reasoning", "reasoning_content")  # of our own replies


@dataclass
class Chat(OpenAiExchange):
    """One request for a chat completion."""

    kind = "chat.completion"
    part_kind = "chat.completion.chunk"

    def choice(self, index: int, answer: Finished) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": self._logprobs(answer.tokens, answer.finish_reason),
            "finish_reason": reason(answer.finish_reason),
        }

    def parts(self, index: int, piece: Piece, first: bool) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        if first:
            delta = {"role": "assistant", "content": "", "refusal": None}
            rows.append({"delta": delta, "logprobs": None, "finish_reason": None})
        text = "".join(token.text for token in piece.tokens)
        logprobs = self._logprobs(piece.tokens, piece.finish_reason)
        if text or logprobs is not None or piece.finish_reason is not None:
            delta = {"content": text} if text else {}
            rows.append({"delta": delta, "logprobs": logprobs, "finish_reason": reason(piece.finish_reason)})
        return rows

    def _logprobs(self, tokens: Sequence[Token], finish_reason: str | None) -> dict[str, Any] | None:
        most = self.asked.sampling.logprobs
        if most is None:
            return None
        rows = [
            _token(token.text, token.logprob)
            | {"top_logprobs": [_token(text, value) for _, text, value in top_of(token, most)]}
            for token in shown_tokens(tokens, finish_reason)
        ]
        return {"content": rows, "refusal": None}


def read(document: Mapping[str, Any], defaults: Defaults) -> Chat:
    """The exchange; Refused (400) with every fault in one sentence, also where the template refuses."""
    faults: list[str] = []
    fields = Fields(document, "member", faults)
    messages = _messages(fields.value("messages"), faults)
    most = fields.whole(
        "max_completion_tokens", "max_tokens", low=1, high=defaults.most_new_tokens, default=defaults.max_new_tokens
    )
    logprobs = fields.flag("logprobs", default=False)
    top = fields.whole("top_logprobs", low=0, high=MOST_LOGPROBS)
    if top and not logprobs:
        faults.append("'top_logprobs' needs 'logprobs': true")
    asked = read_asked(fields, defaults, most, (top or 0) if logprobs else None)
    generation = fields.flag("add_generation_prompt", default=True)
    variables = fields.value("chat_template_kwargs")
    if not isinstance(variables, dict | None):
        faults.append(f"'chat_template_kwargs' must be an object: got {kind(variables)}")
        variables = None
    _at_one_value(fields)
    fields.rest()
    refuse(faults, asked.choices.best_of)
    prompt = defaults.prompts.chat(messages, generation, variables or {})
    return Chat(asked.expand([prompt]), asked, Envelope.of("chatcmpl", defaults))


def _messages(given: Any, faults: list[str]) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_MESSAGES:
        got = f"{len(given)} of them" if isinstance(given, list) else kind(given)
        faults.append(f"'messages' must be a list of 1 to {MOST_MESSAGES} messages: got {got}")
        return []
    wrong: list[str] = []
    messages = [_message(message, f"messages[{index}]", wrong) for index, message in enumerate(given)]
    faults += wrong[:MOST_FAULTS]
    return messages


def _message(given: Any, where: str, faults: list[str]) -> dict[str, Any]:
    if not isinstance(given, dict):
        faults.append(f"{where} must be an object: got {kind(given)}")
        return {}
    own: list[str] = []
    fields = Fields(given, "member", own)
    role = fields.value("role")
    if not isinstance(role, str) or role not in _ROLES:
        own.append(f"'role' must be {', '.join(_ROLES)}: got {shown(role)}")
        role = "user"
    content = _content(fields.value("content"), role, own)
    carried = {name: fields.value(name) for name in _CARRIED}
    fields.ignore(*_ECHOED)
    fields.rest()
    faults += [f"{where}: {fault}" for fault in own[:MOST_FAULTS]]
    return {"role": _ROLES[role], "content": content} | {
        name: value for name, value in carried.items() if value is not None
    }


def _content(given: Any, role: str, faults: list[str]) -> str:
    """A text, or the texts of parts, each on lines of its own; an assistant's may be missing."""
    if given is None and role == "assistant":
        return ""
    parts = given if isinstance(given, list) else [{"type": "text", "text": given}]
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text":
            what = shown(part.get("type")) if isinstance(part, dict) else kind(part)
            faults.append(f"'content' may hold parts of the type \"text\" only: got {what}")
            return ""
        if not isinstance(part.get("text"), str) or not is_unicode(part["text"]):
            faults.append(f"'content' must be a text: got {kind(part.get('text'))}")
            return ""
    return "\n".join(part["text"] for part in parts)


def _at_one_value(fields: Fields) -> None:
    """Parameters of OpenAI's that are accepted where they ask for nothing."""
    fields.only("tools", "functions", allowed=([],), why="calls of tools are not read out of answers")
    fields.only("tool_choice", "function_call", allowed=("none", "auto"), why="there are no tools")
    fields.only("modalities", allowed=(["text"],), why="the model writes text")
    fields.only(
        "audio", "prediction", "web_search_options", "reasoning_effort", "verbosity", allowed=(), why="not here"
    )
    fields.only("store", allowed=(False,), why="nothing is kept")
    fields.ignore("parallel_tool_calls")


def _token(text: str, logprob: float | None) -> dict[str, Any]:
    return {"token": text, "logprob": finite(logprob), "bytes": list(text.encode("utf-8", "replace"))}
