"""A streamed answer, from the bytes as they came to tokens with their times.

Not the transport (client.py). A part is neither a line nor a token, and may end within a character: bytes are joined
until a line is whole, and a token's time is that of the part that completed its line. Read are
LMI's and TGI's `token` objects as JSON lines or server-sent events
(https://docs.djl.ai/docs/serving/serving/docs/lmi/user_guides/lmi_input_output_schema.html,
https://huggingface.co/docs/text-generation-inference/reference/api_reference), and OpenAI's chunks
(https://platform.openai.com/docs/api-reference/chat/streaming).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from heavylift.benchmark.failure import InvocationFailed

MOST_TOKENS = 10_000_000  # no context is so long: a count that is larger is no count
Part = tuple[float, bytes]  # when it came, in seconds, and what


@dataclass
class Streamed:
    """What a stream said: the text, the times of the events with content (reasoning is generated, but no content),
    and the counts and reason that its last events gave."""

    text: str = ""
    content_s: list[float] = field(default_factory=list)
    token_s: list[float] = field(default_factory=list)
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    finish_reason: str | None = None
    ended: bool = False

    def hear(self, event: Any, at: float) -> None:
        """Take one decoded event. Raises InvocationFailed for one that is an error, or none of the known forms."""
        if not isinstance(event, dict):
            raise InvocationFailed("reply", f"a line of the stream is {json.dumps(event)[:200]}", 200)
        if event.get("error") is not None:
            raise InvocationFailed("stream", f"the stream says: {json.dumps(event)[:400]}", 200)
        if isinstance(event.get("token"), dict):
            self._token(event, at)
        elif isinstance(event.get("choices"), list):
            self._choices(event, at)
        elif isinstance(event.get("outputs"), list):
            self._say("".join(map(str, event["outputs"])), at)
            self.ended = True  # this form names no end
        elif event.get("usage") is None and event.get("details") is None:
            raise InvocationFailed("reply", f"a line of the stream has no token: {json.dumps(event)[:200]}", 200)
        self._count(event)

    def _token(self, event: dict[str, Any], at: float) -> None:
        token = event["token"]
        if token.get("special") is not True:
            self._say(token.get("text"), at)

    def _choices(self, event: dict[str, Any], at: float) -> None:
        for choice in event["choices"]:
            delta = choice.get("delta") if isinstance(choice.get("delta"), dict) else {}
            self._say(choice.get("text") if "text" in choice else delta.get("content"), at)
            if delta.get("reasoning_content") or delta.get("reasoning"):
                self.token_s.append(at)
            self._finish(choice.get("finish_reason"))

    def _say(self, text: Any, at: float) -> None:
        if isinstance(text, str) and text:
            self.text += text
            self.content_s.append(at)
            self.token_s.append(at)

    def _count(self, event: dict[str, Any]) -> None:
        for counts in (event.get("details"), event.get("usage")):
            if isinstance(counts, dict):
                self.generated_tokens = _first(counts, self.generated_tokens, "generated_tokens", "completion_tokens")
                self.prompt_tokens = _first(counts, self.prompt_tokens, "prompt_tokens", "input_length")
                self._finish(counts.get("finish_reason"))

    def _finish(self, reason: Any) -> None:
        if isinstance(reason, str):
            if reason == "error":
                raise InvocationFailed("stream", "the stream finished with the reason 'error'", 200)
            self.finish_reason, self.ended = reason, True


def read_stream(parts: Iterable[Part]) -> Streamed:
    """The whole stream. Raises InvocationFailed: kind `stream` where it broke, `reply` where it is no such stream."""
    heard = Streamed()
    for at, line in lines(parts):
        text = _payload(line)
        if text is None:
            continue
        if text == "[DONE]":
            heard.ended = True
            continue
        try:
            event = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvocationFailed("reply", f"a line of the stream is not JSON: {error}", 200) from None
        heard.hear(event, at)
    if not heard.ended:
        raise InvocationFailed("stream", "the stream ended without a finish reason", 200)
    return heard


def lines(parts: Iterable[Part]) -> Iterator[tuple[float, bytes]]:
    """Whole lines without their ends, each with the time of the part that completed it; the last may lack its end."""
    rest, at = bytearray(), 0.0
    for at, part in parts:
        rest += part
        *whole, last = rest.split(b"\n")
        rest = bytearray(last)
        yield from ((at, bytes(line.rstrip(b"\r"))) for line in whole)
    if rest:
        yield at, bytes(rest.rstrip(b"\r"))


def _payload(line: bytes) -> str | None:
    """The JSON text of a line; None for blank lines and the fields of server-sent events that carry no data."""
    try:
        text = line.decode().strip()
    except UnicodeDecodeError as error:
        raise InvocationFailed("reply", f"a line of the stream is not UTF-8: {error}", 200) from None
    if text.startswith("data:"):
        return text.removeprefix("data:").strip() or None
    return None if not text or text.startswith((":", "event:", "id:", "retry:")) else text


def _first(counts: dict[str, Any], known: int | None, *keys: str) -> int | None:
    found = (counts[key] for key in keys if type(counts.get(key)) is int and 0 <= counts[key] <= MOST_TOKENS)
    return next(found, known)
