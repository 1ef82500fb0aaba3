"""A model that a script asks: `pipeline_generate`, `stream_generate`, `generate`. Not its processes: children.py.

Parameters are FasterTransformer's, with its meanings and defaults; the server reads them by the same code (the table
is in docs/serving.md). A rank that dies fails the call, and the next one starts them all again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from heavylift_runtime.engines.children import Children, Ended
from heavylift_runtime.engines.engine import Piece, Request, Sampling
from heavylift_runtime.errors import RuntimeFault
from heavylift_runtime.server.schemas.exchange import Defaults
from heavylift_runtime.server.schemas.fastertransformer import MAX_SEQ_LEN
from heavylift_runtime.server.schemas.fields import Fields
from heavylift_runtime.server.schemas.parameters import read_parameters

_OUTPUT_LEN = 32  # pipeline_generate's own, for GPT's family
_MOST = 2048


class UnknownParameter(KeyError):
    """A parameter that FasterTransformer does not know; a KeyError, as in the wheel, that reads like a sentence."""

    def __str__(self) -> str:
        return str(self.args[0])


class InferenceModel:
    """One model on its ranks, which start with it and end with it."""

    def __init__(self, start: Callable[[], Children], place: str, kind: str) -> None:
        self._start, self._place = start, place
        self._default = MAX_SEQ_LEN if kind == "t5" else _OUTPUT_LEN
        self._tokenizer: Any = None
        self._lock = threading.Lock()
        self._children: Children | None = start()

    def pipeline_generate(self, inputs: str | Sequence[str], *lengths: Any, **parameters: Any) -> list[str]:
        """Each prompt's answer. `lengths`: the most new tokens of each, as Triton's path takes them."""
        requests = self._requests([inputs] if isinstance(inputs, str) else list(inputs), lengths, parameters)
        texts = [""] * len(requests)
        for place, piece in self._ask(requests, stream=False):
            texts[place] += "".join(token.text for token in piece.tokens)
        return texts

    def stream_generate(self, inputs: str | Sequence[str], *lengths: Any, **parameters: Any) -> Iterator[list[str]]:
        """What is new of each prompt's answer, as it comes."""
        requests = self._requests([inputs] if isinstance(inputs, str) else list(inputs), lengths, parameters)
        for place, piece in self._ask(requests, stream=True):
            text = "".join(token.text for token in piece.tokens)
            if text:
                yield [text if place == each else "" for each in range(len(requests))]

    def generate(self, input_ids: Sequence[Sequence[int]], *lengths: Any, **parameters: Any) -> list[list[int]]:
        """Each prompt's new tokens."""
        requests = self._requests([tuple(int(token) for token in row) for row in input_ids], lengths, parameters)
        tokens: list[list[int]] = [[] for _ in requests]
        for place, piece in self._ask(requests, stream=False):
            tokens[place] += [token.id for token in piece.tokens]
        return tokens

    def set_tokenizer(self, tokenizer: Any) -> None:
        """Prompts are read with this one; answers are written with the checkpoint's."""
        self._tokenizer = tokenizer

    def get_tokenizer(self) -> Any:
        """The tokenizer, as transformers opens it."""
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(self._place)
        return self._tokenizer

    def close(self) -> None:
        """End the ranks."""
        with self._lock:
            if self._children is not None:
                self._children.close()
                self._children = None

    def _requests(
        self, prompts: Sequence[str | tuple[int, ...]], lengths: tuple[Any, ...], parameters: dict[str, Any]
    ) -> list[Request]:
        given = {name: value for name, value in parameters.items() if name not in ("output_length", "padding_side")}
        length = parameters.get("output_length", lengths[0] if lengths else None)
        if lengths and not isinstance(length, Sequence):
            raise TypeError("give numbers by their names: pipeline_generate(inputs, batch_size=4, output_len=32)")
        each = list(length) if isinstance(length, Sequence) else [length] * len(prompts)
        if len(each) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts and {len(each)} lengths: give one for each, or one number")
        requests = []
        for prompt, most in zip(prompts, each, strict=True):
            sampling = self._sampling(given if most is None else given | {"output_len": most})
            if isinstance(prompt, str) and self._tokenizer is not None:
                prompt = tuple(self._tokenizer(prompt)["input_ids"])
            requests.append(Request(prompt, sampling))
        return requests

    def _sampling(self, parameters: dict[str, Any]) -> Sampling:
        fields = Fields({name: _plain(value) for name, value in parameters.items()}, "parameter", [])
        defaults = Defaults(max_new_tokens=self._default, most_new_tokens=_MOST, fastertransformer=True)
        sampling = read_parameters(fields, defaults, "none", False).sampling
        if fields.faults:
            fault = UnknownParameter if any(each.startswith("unknown") for each in fields.faults) else ValueError
            raise fault("; ".join(fields.faults))
        return sampling

    def _ask(self, requests: Sequence[Request], *, stream: bool) -> Iterator[tuple[int, Piece]]:
        """One call at a time; threads wait for each other."""
        with self._lock:
            if self._children is None:
                self._children = self._start()
            if not self._children.leads:
                return
            try:
                for place, piece in self._children.ask(requests, stream=stream):
                    if piece.error is not None:
                        raise MemoryError(piece.error[1]) if piece.error[0] == 507 else RuntimeFault(piece.error[1])
                    yield place, piece
            except Ended:
                self._children = None
                raise


def _plain(value: Any) -> Any:
    """numpy's and torch's numbers as Python's."""
    return value.tolist() if hasattr(value, "tolist") else value
