"""The three shapes of LMI's replies, streams and errors. Not how a request is read: that is lmi.py.

Own        {"outputs": […], "usage": {…}, "details": […]}; a stream is LMI's current one
Old        djl-serving v0.23: [{"generated_text": …}, …]; a stream of {"outputs": ["token", …]}; 424 for every fault
Latest     djl-serving's current one: {"generated_text": …, "details": {…}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from heavylift_runtime.engines.engine import Piece, Token
from heavylift_runtime.server.schemas.document import dump
from heavylift_runtime.server.schemas.exchange import JSON, Answer, Finished
from heavylift_runtime.server.schemas.parameters import Wish
from heavylift_runtime.server.schemas.telling import LMI, likeliest, told, usage, written

_COUNTED = ("finish_reason", "prompt_tokens", "generated_tokens")


@dataclass(frozen=True)
class Asked:
    """What the reply depends on: the prompts as the client wrote them, whether it was one text, and the wish."""

    prompts: tuple[str, ...]
    single: bool
    wish: Wish

    def text(self, index: int, answer: str) -> str:
        """An answer to the prompt at `index`, after the prompt itself where the client wants both."""
        return self.prompts[index] + answer if self.wish.full_text else answer

    def groups(self, finished: Sequence[Finished]) -> list[list[Finished]]:
        """For each prompt the `n` answers that count."""
        return [group[: self.wish.choices.n] for group in self.wish.choices.of(finished)]


class Shape(Protocol):
    """One way to answer."""

    def faults(self, stream: bool) -> list[str]:
        """What this shape has no place for."""

    def whole(self, finished: Sequence[Finished]) -> bytes:
        """The reply."""

    def events(self, index: int, piece: Piece) -> Iterator[object]:
        """The events of a stream; bytes are JSON that is written already."""

    @staticmethod
    def failure(code: int, sentence: str) -> Answer:
        """The reply instead of a 200."""

    def broken(self, code: int, sentence: str) -> object:
        """A stream's last event."""


@dataclass
class Own:
    """Heavylift's: one row for each answer, in the order of the inputs."""

    asked: Asked
    said: list[str] = field(default_factory=list)

    def faults(self, stream: bool) -> list[str]:
        rows = len(self.asked.prompts) * self.asked.wish.choices.best_of
        return [f"'stream' takes one input and one answer: got {rows} to generate"] if stream and rows > 1 else []

    def whole(self, finished: Sequence[Finished]) -> bytes:
        groups = self.asked.wish.choices.of(finished)
        rows = [(index, each) for index, group in enumerate(self.asked.groups(finished)) for each in group]
        document: dict[str, Any] = {
            "outputs": [self.asked.text(index, each.text) for index, each in rows],
            "usage": usage(groups),
        }
        if self.asked.wish.details:
            document["details"] = [self.details(each) for _, each in rows]
        return dump(document)

    def details(self, answer: Finished) -> dict[str, Any]:
        """Counts; the tokens only where log-probabilities were asked for by name."""
        found = {name: getattr(answer, name) for name in _COUNTED}
        return found | (_tokens(answer, self.asked.wish) if self.asked.wish.logprobs else {})

    def events(self, index: int, piece: Piece) -> Iterator[object]:
        for token, last in told(piece):
            self.said.append(token.text)
            if not (last or self.asked.wish.top):
                yield self.between(token)
                continue
            event = {"token": self.token(token)}
            if self.asked.wish.top:
                event["top_tokens"] = likeliest(token, LMI, self.asked.wish.top)
            if last:
                event["generated_text"] = self.asked.text(0, "".join(self.said))
                if self.asked.wish.details:
                    event["details"] = self.ending(piece)
            yield event

    def between(self, token: Token) -> object:
        """The event of a token that is not the last; thousands of them leave in a second."""
        if self.asked.wish.logprobs:
            return {"token": self.token(token)}
        return b'{"token":{"id":%d,"text":%b}}' % (token.id, dump(token.text))

    def token(self, token: Token) -> Any:
        """A log-probability only where it was asked for: it costs the engine a pass over the vocabulary."""
        return written(token, LMI) if self.asked.wish.logprobs else {"id": token.id, "text": token.text}

    def ending(self, piece: Piece) -> dict[str, Any]:
        """The details of a stream."""
        return {name: getattr(piece, name) for name in _COUNTED}

    @staticmethod
    def failure(code: int, sentence: str) -> Answer:
        return Answer(code, JSON, dump({"error": sentence, "code": code}))

    def broken(self, code: int, sentence: str) -> object:
        return {"error": {"message": sentence, "type": kind_of(code), "code": code}}


class Latest(Own):
    """djl-serving's current shape: an object for a text, a list of them for a list."""

    def faults(self, stream: bool) -> list[str]:
        wish = self.asked.wish
        many = wish.choices.n > 1 and not wish.details
        return [*super().faults(stream), *(["'n' above 1 needs 'details': true, which holds them"] if many else [])]

    def whole(self, finished: Sequence[Finished]) -> bytes:
        objects = [self.answer(index, group) for index, group in enumerate(self.asked.groups(finished))]
        return dump(objects[0] if self.asked.single else objects)

    def answer(self, index: int, group: Sequence[Finished]) -> dict[str, Any]:
        """One prompt's best answer, and the others in its details."""
        best, *others = group
        document: dict[str, Any] = {"generated_text": self.asked.text(index, best.text)}
        if self.asked.wish.details:
            document["details"] = self._details(index, best)
            if others:
                rows = [
                    {"generated_text": self.asked.text(index, each.text), **self._details(index, each)}
                    for each in others
                ]
                document["details"]["best_of_sequences"] = rows
        return document

    def _details(self, index: int, answer: Finished) -> dict[str, Any]:
        found = {name: getattr(answer, name) for name in _COUNTED}
        return {**found, "inputs": self.asked.prompts[index], **_tokens(answer, self.asked.wish)}

    def between(self, token: Token) -> object:
        return {"token": self.token(token)}

    def token(self, token: Token) -> Any:
        return written(token, LMI)

    def ending(self, piece: Piece) -> dict[str, Any]:
        return super().ending(piece) | {"inputs": self.asked.prompts[0]}

    @staticmethod
    def failure(code: int, sentence: str) -> Answer:
        return lmi_failure(code, sentence, "invoke handler failure")

    def broken(self, code: int, sentence: str) -> object:
        token = {"id": -1, "text": "", LMI: 0.0}
        details = {"finish_reason": "error", "generated_tokens": len(self.said), "inputs": self.asked.prompts[0]}
        return {"token": token, "generated_text": None, "error": sentence, "code": code, "details": details}


class Old(Latest):
    """djl-serving v0.23's shape: always a list, and a stream that has the next token of every row."""

    def faults(self, stream: bool) -> list[str]:
        return []

    def whole(self, finished: Sequence[Finished]) -> bytes:
        groups = enumerate(self.asked.groups(finished))
        return dump([self.answer(index, [each]) for index, group in groups for each in group])

    def events(self, index: int, piece: Piece) -> Iterator[object]:
        rows = len(self.asked.prompts) * self.asked.wish.choices.best_of
        for token, _ in told(piece):
            yield {"outputs": [token.text if row == index else "" for row in range(rows)]}

    @staticmethod
    def failure(code: int, sentence: str) -> Answer:
        return lmi_failure(424 if code == 400 else code, sentence, "prediction failure")

    def broken(self, code: int, sentence: str) -> object:
        return {"error": sentence, "code": 424}


SHAPES: Mapping[str, type[Own]] = {"none": Own, "0.23": Old, "latest": Latest}


def lmi_failure(code: int, sentence: str, message: str) -> Answer:
    """A handler's error (400, 424, 507), or the error of djl-serving's HTTP server."""
    if code in (400, 424, 507):
        return Answer(code, JSON, dump({"code": code, "message": message, "error": sentence}))
    return Answer(code, JSON, dump({"code": code, "type": kind_of(code), "message": sentence}))


def kind_of(code: int) -> str:
    """The name that djl-serving gives to a status."""
    names = {404: "ResourceNotFoundException", 405: "MethodNotAllowedException", 408: "RequestTimeoutException"}
    names |= {424: "ModelException", 429: "ServiceUnavailableException", 503: "ServiceUnavailableException"}
    return names.get(code, "BadRequestException" if code < 500 else "InternalServerException")


def _tokens(answer: Finished, wish: Wish) -> dict[str, Any]:
    found: dict[str, Any] = {"tokens": [written(token, LMI) for token in answer.tokens]}
    if wish.top:
        found["top_tokens"] = [likeliest(token, LMI, wish.top) for token in answer.tokens]
    return found
