"""What LMI's handlers for text are to a script: a service that it may call, and whose `parse_input` it may replace.

Not the no-code path, where the server asks the engine itself (`option.entryPoint=djl_python.…`). The names and what
`parse_input` gives are djl-serving's of v0.25 (engines/python/setup/djl_python/huggingface.py); the work is an engine's
of the runtime, in processes of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from djl_python.encode_decode import decode, encode
from djl_python.inputs import Input
from djl_python.outputs import Output
from heavylift_runtime.engines.children import Children, Ended, beside
from heavylift_runtime.engines.engine import Piece, Request
from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.errors import PromptError
from heavylift_runtime.keys import ALIASES, known_keys
from heavylift_runtime.options import Options
from heavylift_runtime.server.schemas.exchange import Defaults
from heavylift_runtime.server.schemas.fields import Fields
from heavylift_runtime.server.schemas.parameters import Wish, read_parameters

Parsed = tuple[list[Any], list[int], list[dict[str, Any]], dict[int, str], list[Input]]
_NEW_TOKENS = 30  # where a request does not say; LMI's
_ABOUT_THE_REPLY = (
    "stream",
    "output_formatter",
    "cached_prompt",
)  # among the parameters, as scripts of LMI's write them


class TextService:
    """One model that writes text, on its own ranks."""

    engine = "accelerate"

    def __init__(self) -> None:
        self.initialized = False
        self.properties: dict[str, Any] = {}
        self._ranks: Children | None = None
        self._tokenizer: Any = None

    def initialize(self, properties: dict[str, Any]) -> None:
        """Load the model that the properties name; OptionsError for an option that the engine does not have so."""
        self.properties = properties
        self._ranks = self._start()
        self.initialized = True

    @property
    def tokenizer(self) -> Any:
        """The model's, as transformers opens it."""
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            folder = Path(self.properties["model_dir"])
            self._tokenizer = AutoTokenizer.from_pretrained(folder / self.properties.get("model_id", "."))
        return self._tokenizer

    def parse_input(self, inputs: Input) -> Parsed:
        """The prompts of all requests; how many each has; parameters for each request or prompt; what is wrong with a
        request, by its number; the requests."""
        prompts: list[Any] = []
        sizes: list[int] = []
        parameters: list[dict[str, Any]] = []
        errors: dict[int, str] = {}
        batch = inputs.get_batches()
        for number, item in enumerate(batch):
            try:
                document = decode(item, item.get_property("Content-Type"))
                given = document.pop("inputs", document) if isinstance(document, dict) else document
                wishes = (document.pop("parameters", None) if isinstance(document, dict) else None) or {}
                if isinstance(document, dict) and "stream" in document:
                    wishes = {**wishes, "stream": document["stream"]}
            except (ValueError, TypeError) as error:  # no JSON, or no object in it
                errors[number] = str(error)
                sizes.append(0)
                parameters.append({})
                continue
            prompts += given if isinstance(given, list) else [given]
            sizes.append(len(given) if isinstance(given, list) else 1)
            parameters.append(wishes)
        return prompts, sizes, parameters, errors, batch

    def inference(self, inputs: Input) -> Output:
        """The answers of all requests; with `option.enable_streaming`, or where the one request asks for it, a stream
        of the new texts."""
        prompts, sizes, given, errors, batch = self.parse_input(inputs)
        if len(errors) == len(batch):
            return Output().error("; ".join(errors.values()), 400)
        each = given if len(given) == len(prompts) else [one for one, size in zip(given, sizes, strict=True)
                                                         for _ in range(size)]  # fmt: skip
        try:
            wishes = [self._wish(parameters) for parameters in each]
            requests = [Request(text_of(prompt), wish.sampling) for prompt, wish in zip(prompts, wishes, strict=True)]
            if any(parameters.get("stream") for parameters in each) or self._streams:
                if len(batch) > 1:
                    raise PromptError("several requests cannot be answered by one stream: set batch_size=1")
                output = Output().add_property("content-type", "application/jsonlines")
                return output.add_stream_content(self._steps(requests))
            texts = self._answers(requests)
        except PromptError as error:
            return Output().error(str(error), 400)
        rows = iter(
            {"generated_text": prompt + text if wish.full_text else text}
            for prompt, text, wish in zip(prompts, texts, wishes, strict=True)
        )
        outputs = Output()
        for number, item in enumerate(batch):
            answer: Any = [next(rows) for _ in range(sizes[number])]
            told = {"error": errors[number], "code": 400} if number in errors else answer
            encode(outputs, told, item.get_property("Accept"), key=inputs.get_content().key_at(number))
        return outputs

    @property
    def _streams(self) -> bool:
        return str(self.properties.get("enable_streaming", "false")).lower() not in ("false", "")

    def _start(self) -> Children:
        row, told = ENGINES[self.engine], {name: str(value) for name, value in self.properties.items()}
        known = {*known_keys(self.engine), *ALIASES} - {"engine", "option.entryPoint", "option.model_dir"}
        asked = {f"option.{name}": value for name, value in told.items() if f"option.{name}" in known}
        named = {} if row.entry_point is None else {"option.entryPoint": row.entry_point}
        options = Options.parse({"engine": row.engine_property, **named, **asked}, {})
        return beside(options, Path(told["model_dir"]))

    def _wish(self, parameters: Mapping[str, Any]) -> Wish:
        fields = Fields({k: v for k, v in parameters.items() if k not in _ABOUT_THE_REPLY}, "parameter", [])
        most = int(self.properties.get("max_new_tokens", _NEW_TOKENS))
        wish = read_parameters(fields, Defaults(max_new_tokens=most), "latest", False)
        if wish.choices.best_of > 1:
            fields.faults.append(f"a script's service gives one answer: got n or best_of of {wish.choices.best_of}")
        if fields.faults:
            raise PromptError("; ".join(fields.faults))
        return wish

    def _answers(self, requests: Sequence[Request]) -> list[str]:
        texts = [""] * len(requests)
        for place, piece in self._ask(requests, stream=False):
            texts[place] += "".join(token.text for token in piece.tokens)
        return texts

    def _steps(self, requests: Sequence[Request]) -> Iterator[list[str]]:
        for place, piece in self._ask(requests, stream=True):
            if text := "".join(token.text for token in piece.tokens):
                yield [text if place == each else "" for each in range(len(requests))]

    def _ask(self, requests: Sequence[Request], *, stream: bool) -> Iterator[tuple[int, Piece]]:
        if self._ranks is None:
            self._ranks = self._start()
        if not self._ranks.leads:
            return
        try:
            for place, piece in self._ranks.ask(requests, stream=stream):
                if piece.error is not None:
                    raise MemoryError(piece.error[1]) if piece.error[0] == 507 else RuntimeError(piece.error[1])
                yield place, piece
        except Ended:
            self._ranks = None  # the next call starts them again
            raise


def text_of(prompt: Any) -> str:
    if not isinstance(prompt, str) or not prompt:
        raise PromptError(f"'inputs' must be a text or a list of texts: got {prompt!r}"[:300])
    return prompt


def handle_with(service: TextService, inputs: Input) -> Output | None:
    """LMI's `handle(inputs)` over a service."""
    if not service.initialized:
        service.initialize(inputs.get_properties())
    return None if inputs.is_empty() else service.inference(inputs)
