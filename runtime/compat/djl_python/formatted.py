"""A script of formatters alone: an engine answers, between what the script makes of requests and of answers.

Not the decorators (input_parser.py, output_formatter.py), and not the server's rolling batch: requests are answered
`batch_size` at a time. A formatter is either LMI's for vLLM's server (a JSON object in, one out) or that for its other
backends (Input → RequestInput; RequestOutput → text, for each token): its first parameter's annotation tells.
Source: deepjavalibrary/djl-serving, serving/docs/lmi/user_guides/{input,output}_formatter_schema.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from djl_python.calling import offered
from djl_python.encode_decode import decode
from djl_python.inputs import Input
from djl_python.outputs import Output, to_json
from djl_python.request_io import RequestInput, TextGenerationOutput, TextInput, Token
from djl_python.text_service import TextService, handle_with, text_of
from heavylift_runtime.engines.engine import Request
from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.errors import PromptError
from heavylift_runtime.spellings import ENGINE_OF_ROLLING

Parts = Mapping[str, Callable[..., Any]]
_OBJECTS = ("dict", "Dict", "Dict[str, Any]", "dict[str, Any]")


def formatted_handler(parts: Parts) -> Callable[[Input], Output | None]:
    """`handle(inputs)` between the script's formatters."""
    service = Formatted(parts)
    return lambda inputs: handle_with(service, inputs)


class Formatted(TextService):
    """The model on the engine that the properties name."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts

    def initialize(self, properties: dict[str, Any]) -> None:
        """Load the model: by `option.rolling_batch` as LMI names engines, else by `engine=`, else by transformers."""
        rolling = ENGINE_OF_ROLLING.get(str(properties.get("rolling_batch")))
        spelled = [row.name for row in ENGINES.values() if row.engine_property == properties.get("engine")]
        self.engine = rolling or next(
            (name for name in spelled if name in ("deepspeed", "fastertransformer")), "accelerate"
        )
        super().initialize(properties)

    def inference(self, inputs: Input) -> Output:
        """The formatted answers of all requests, or a stream of the only one's."""
        batch = inputs.get_batches()
        try:
            asked = [self._read(number, item) for number, item in enumerate(batch)]
            requests = [self._request(each) for each in asked]
        except (PromptError, ValueError, TypeError, KeyError) as error:
            return Output().error(f"{type(error).__name__}: {error}", 400)
        answers = [TextGenerationOutput(number, each) for number, each in enumerate(asked)]
        if any(each.parameters.get("stream") for each in asked):
            if len(batch) > 1:
                return Output().error("several requests cannot be answered by one stream: set batch_size=1", 400)
            output = Output().add_property("content-type", "application/jsonlines")
            steps = self._steps_of(requests, answers, stream=True)
            return output.add_stream_content((text for _, text in steps), None)
        texts = [""] * len(batch)
        for place, text in self._steps_of(requests, answers, stream=False):
            texts[place] += text
        outputs = Output().add_property("content-type", "application/json")
        for number, text in enumerate(texts):
            outputs.add(text, key=inputs.get_content().key_at(number))
        return outputs

    def _read(self, number: int, item: Input) -> RequestInput:
        own = self._parts.get("input")
        told = {"tokenizer": self.tokenizer, "configs": self.properties}
        if own is not None and not _of_objects(own, self.engine):
            made = offered(own, item, **told)
            if not isinstance(made, TextInput):
                raise TypeError(f"an input formatter must return a TextInput: got {type(made).__name__}")
            made.parameters = made.server_parameters or made.parameters
            return made
        payload = decode(item, item.get_property("Content-Type"))
        if own is not None:
            payload = offered(own, payload, **told)
        if not isinstance(payload, dict) or "inputs" not in payload:
            raise PromptError('the body must be JSON like {"inputs": "…"}')
        wishes = {**(payload.get("parameters") or {}), **({"stream": True} if payload.get("stream") else {})}
        return TextInput(number, parameters=wishes, input_text=payload["inputs"], tokenizer=self.tokenizer)

    def _request(self, asked: RequestInput) -> Request:
        assert isinstance(asked, TextInput)
        sampling = self._wish(asked.parameters).sampling
        return Request(text_of(asked.input_text), replace(sampling, logprobs=sampling.logprobs or 0))

    def _steps_of(
        self, requests: Sequence[Request], answers: Sequence[TextGenerationOutput], *, stream: bool
    ) -> Iterator[tuple[int, str]]:
        """What is new of each answer, formatted, with its place."""
        for place, piece in self._ask(requests, stream=stream):
            answer = answers[place]
            tokens = [Token(each.id, each.text, each.logprob) for each in piece.tokens]
            if piece.last and not tokens:
                tokens = [Token(-1, "")]  # a formatter waits for a last one
            for number, token in enumerate(tokens, 1):
                answer.finished = piece.last and number == len(tokens)
                reason = piece.finish_reason if answer.finished else None
                answer.set_next_token(token, is_last_token=answer.finished, finish_reason=reason)
                yield place, self._written(answer, stream)

    def _written(self, answer: TextGenerationOutput, stream: bool) -> str:
        own = self._parts.get("output")
        if own is not None and not _of_objects(own, self.engine):
            text = own(answer)
            return text.decode() if isinstance(text, bytes) else str(text)
        told = _line(answer) if stream else _whole(answer)
        if told is None:
            return ""
        return to_json(told if own is None else own(told)).decode() + ("\n" if stream else "")


def _of_objects(formatter: Callable[..., Any], engine: str) -> bool:
    """It takes and gives JSON objects."""
    first = next(iter(inspect.signature(formatter).parameters.values()), None)
    noted = inspect.Parameter.empty if first is None else first.annotation
    if noted is inspect.Parameter.empty:
        return engine == "vllm"
    return noted is dict or getattr(noted, "__origin__", None) is dict or noted in _OBJECTS


def _line(answer: TextGenerationOutput) -> dict[str, Any]:
    sequence = answer.sequences[answer.best_sequence_index]
    token, _, last = sequence.get_next_token()
    assert token is not None
    return {"token": token.as_dict()} | (_whole(answer) or {} if last else {})


def _whole(answer: TextGenerationOutput) -> dict[str, Any] | None:
    if not answer.finished:
        return None
    sequence = answer.sequences[answer.best_sequence_index]
    told: dict[str, Any] = {"generated_text": "".join(token.text for token in sequence.tokens)}
    if answer.input.parameters.get("details"):
        told["details"] = {"finish_reason": sequence.finish_reason, "generated_tokens": len(sequence.tokens)}
    return told
