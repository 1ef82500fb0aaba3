"""Token streams of Hugging Face models, for scripts: `StreamingUtils.get_stream_generator`. Not the server's streams.

Upstream decodes each token alone, and so loses spaces and parts of characters; here the texts of a stream, joined, are
the answer. The generator is the one of engine accelerate.
"""

from __future__ import annotations

import copy
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

_ENGINES = ("DeepSpeed", "Accelerate", "transformers-neuronx")
_CHANCE = ("temperature", "top_p", "top_k", "typical_p", "do_sample")
_KNOWN = ("max_new_tokens", "repetition_penalty", "manual_seed", "beam_size", "engine", *_CHANCE)

_log = logging.getLogger("djl_python")


class HFStreamer:
    """What `generate(streamer=…)` of transformers writes to: yields what is new of each answer, one text a prompt.

    The prompts are left out. What fails in `generate` is raised where the texts are read (`fail`).
    """

    def __init__(self, tokenizer: Any, **decode_kwargs: Any) -> None:
        self._decode = partial(tokenizer.decode, **({"skip_special_tokens": True} | decode_kwargs))
        self._end = tokenizer.eos_token_id
        self._rows: list[Any] = []
        self._ended: set[int] = set()
        self._queue: queue.SimpleQueue[list[str] | Exception | None] = queue.SimpleQueue()

    def put(self, value: Any) -> None:
        """The prompts' tokens, then one token of each answer at a time, or several of the only one."""
        from heavylift_runtime.native.stream import Stream

        tokens = value.tolist()
        if not self._rows:
            prompts = tokens if value.dim() > 1 else [tokens]
            self._rows = [Stream(self._decode, prompt) for prompt in prompts]
            return
        columns = tokens if value.dim() > 1 else [[each] for each in tokens]
        if len(self._rows) == 1:
            columns = [[token for column in columns for token in column]]
        self._tell([[self._add(row, token) for token in column] for row, column in enumerate(columns)])

    def put_text(self, value: str) -> None:
        """A text of one's own."""
        self._queue.put([value])

    def end(self) -> None:
        """Nothing more comes."""
        self._tell([[row.end()] for row in self._rows])
        self._queue.put(None)

    def fail(self, error: Exception) -> None:
        """It is raised for whoever reads."""
        self._queue.put(error)

    def __iter__(self) -> HFStreamer:
        return self

    def __next__(self) -> list[str]:
        found = self._queue.get()
        if found is None:
            raise StopIteration
        if isinstance(found, Exception):
            raise found
        return found

    def _add(self, row: int, token: int) -> str:
        if row in self._ended:  # what comes now only fills the row
            return ""
        if token == self._end:
            self._ended.add(row)
        text: str = self._rows[row].add(token)
        return text

    def _tell(self, pieces: list[list[str]]) -> None:
        if any(texts := ["".join(each) for each in pieces]):
            self._queue.put(texts)


class StreamingUtils:
    """The names that scripts call."""

    @staticmethod
    def get_stream_generator(execution_engine: str) -> Callable[..., Iterator[list[str]]]:
        """A function of (model, tokenizer, inputs, device, **parameters) that yields what is new of each answer."""
        if execution_engine not in _ENGINES:
            raise ValueError(f"the engine must be one of {', '.join(_ENGINES)}: got {execution_engine!r}")
        return _stream

    @staticmethod
    def use_hf_default_streamer(
        model: Any, tokenizer: Any, inputs: Sequence[str], device: str | None = "cpu", **parameters: Any
    ) -> HFStreamer:
        """The same from transformers' own `generate`, which takes any parameter of its own, in a thread."""
        side = {} if model.config.is_encoder_decoder else {"padding_side": "left"}
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokens = tokenizer(list(inputs), return_tensors="pt", padding=len(inputs) > 1, **side)
        kept = {name: tokens[name].to(device) for name in ("input_ids", "attention_mask")}
        streamer = HFStreamer(tokenizer)

        def run() -> None:
            try:
                model.generate(**kept, streamer=streamer, **({"max_new_tokens": 50} | parameters))
            except Exception as error:
                streamer.fail(error)

        threading.Thread(target=run, name="generate", daemon=True).start()
        return streamer


def _stream(
    model: Any, tokenizer: Any, inputs: Sequence[str], device: str = "cpu", **parameters: Any
) -> Iterator[list[str]]:
    from heavylift_runtime.engines.choice import generator_of
    from heavylift_runtime.engines.generation import Generation, Row, Threads, leave_to_requests
    from heavylift_runtime.native.stream import Stream

    del device  # the model is where it is
    sampling = _sampling(parameters)
    encodes = bool(model.config.is_encoder_decoder)
    own = model.generation_config
    end = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    ends = frozenset([end] if isinstance(end, int) else end or ())
    pad = next(each for each in (own.pad_token_id, tokenizer.pad_token_id, min(ends, default=0)) if each is not None)
    decode = partial(tokenizer.decode, skip_special_tokens=True)
    rows = []
    for key, text in enumerate(inputs):
        prompt = tokenizer(text)["input_ids"]
        given = [] if encodes else prompt
        rows.append(Row(key, prompt, given, sampling, Stream(decode, given), generator_of(sampling)))
    model.generation_config = copy.deepcopy(own)
    leave_to_requests(model.generation_config)
    threads = Threads(1)
    generation = Generation(model, rows, pad, ends, decode, threads)
    try:
        while generation.rows:
            texts = [""] * len(rows)
            for piece in generation.step():
                if piece.error is not None:
                    raise RuntimeError(piece.error[1])
                texts[piece.key] = "".join(token.text for token in piece.tokens)
            yield texts
    finally:
        for row in rows:
            row.ended = True
        generation.leave()
        threads.close()
        model.generation_config = own


def _sampling(parameters: dict[str, Any]) -> Any:
    from heavylift_runtime.engines.engine import Sampling

    if unknown := [name for name in parameters if name not in _KNOWN]:  # which upstream does not even tell
        _log.warning("a stream has no %s, but %s: left out", ", ".join(unknown), ", ".join(_KNOWN))
    if (typical := parameters.get("typical_p", 1.0)) < 1:
        raise NotImplementedError(f"a stream has no typical sampling: got typical_p={typical}")
    if parameters.get("beam_size", 1) > 1:
        raise NotImplementedError(f"a stream has no beam search: got beam_size={parameters['beam_size']}")
    draws = parameters.get("do_sample", any(name in parameters for name in _CHANCE))
    return Sampling(
        max_new_tokens=parameters.get("max_new_tokens", 50),
        temperature=float(parameters.get("temperature", 1.0)) if draws else 0.0,
        top_k=parameters.get("top_k", 0) if draws else 0,
        top_p=float(parameters.get("top_p", 1.0)) if draws else 1.0,
        repetition_penalty=float(parameters.get("repetition_penalty", 1.0)),
        seed=parameters.get("manual_seed"),
    )
