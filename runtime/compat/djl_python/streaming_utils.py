"""Token streams of Hugging Face models, for scripts: `StreamingUtils.get_stream_generator`. Not the server's streams.

Upstream decodes each token alone, and so loses spaces and parts of characters; here the texts of a stream, joined, are
the answer. The generator is the one of engine accelerate.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

_ENGINES = ("DeepSpeed", "Accelerate", "transformers-neuronx")
_CHANCE = ("temperature", "top_p", "top_k", "do_sample")
_KNOWN = ("max_new_tokens", "repetition_penalty", "manual_seed", "beam_size", *_CHANCE)


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
        model: Any, tokenizer: Any, inputs: Sequence[str], device: str = "cpu", **parameters: Any
    ) -> Any:
        """transformers' own TextIteratorStreamer, over one prompt."""
        from transformers import TextIteratorStreamer

        if len(inputs) != 1:
            raise ValueError(f"transformers' streamer takes one prompt: got {len(inputs)}")
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        tokens = tokenizer(list(inputs), return_tensors="pt").to(device)
        generate = partial(model.generate, **tokens, streamer=streamer, **({"max_new_tokens": 50} | parameters))
        threading.Thread(target=generate, daemon=True).start()
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

    if unknown := [name for name in parameters if name not in _KNOWN]:
        raise ValueError(f"unknown parameter {unknown[0]!r}: use {', '.join(_KNOWN)}")
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
