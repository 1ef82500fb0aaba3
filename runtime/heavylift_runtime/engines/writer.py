"""A model of transformers that writes texts: the requests that wait for it, and those that it answers.

Not where its layers are, nor how many ranks have it: accelerate.py and deepspeed.py. Requests that wait are begun
together, beside those that run, and each step gives every one of them a token (generation.py).
"""

from __future__ import annotations

from typing import Any

from heavylift_runtime.engines.choice import generator_of
from heavylift_runtime.engines.engine import Piece, Request
from heavylift_runtime.engines.generation import Generation, Pick, Row, Threads, leave_to_requests, pick
from heavylift_runtime.engines.pretrained import Pretrained
from heavylift_runtime.engines.words import Words
from heavylift_runtime.errors import PromptError
from heavylift_runtime.native.stream import Stream


class Writer:
    """One model and the requests that it answers."""

    def __init__(self, name: str, pretrained: Pretrained, model: Any, capacity: int, choose: Pick = pick) -> None:
        """`name`: the engine's; `model`: with `config`, `generation_config`, `device` and `generate`."""
        self._name, self._model, self._choose = name, model, choose
        tokenizer = pretrained.tokenizer()
        self._encodes, self._positions = bool(pretrained.config.is_encoder_decoder), pretrained.positions
        self._words = Words(tokenizer, pretrained.config.get_text_config().vocab_size, pretrained.prefix)
        config = model.generation_config
        end = config.eos_token_id if config.eos_token_id is not None else tokenizer.eos_token_id
        self._ends = frozenset([end] if isinstance(end, int) else end or ())
        pads = (config.pad_token_id, tokenizer.pad_token_id, min(self._ends, default=0), 0)
        size = pretrained.config.get_text_config().vocab_size
        self._pad: int = next(pad for pad in pads if pad is not None and 0 <= pad < size)  # old files say -1
        leave_to_requests(config)
        if (start := pretrained.forced_start(tokenizer)) is not None:
            config.forced_bos_token_id = start
        self._capacity, self._threads = capacity, Threads(capacity)
        self._waiting: dict[int, Row] = {}
        self._running: list[Generation] = []

    def tokens(self, request: Request) -> list[int]:
        """The prompt's; PromptError where the model cannot answer the request."""
        sampling = request.sampling
        if request.adapter is not None:
            raise PromptError(f"engine {self._name} has no adapters: got {request.adapter!r}")
        if sampling.form is not None:
            raise PromptError(f"engine {self._name} binds no answer to a form: got {sampling.form.kind}")
        if sampling.num_beams > 1 and (sampling.temperature > 0 or sampling.logprobs is not None):
            raise PromptError(f"num_beams={sampling.num_beams} goes with neither temperature nor logprobs here")
        prompt = self._words.tokens(request.prompt)
        together = max(len(prompt), sampling.max_new_tokens) if self._encodes else len(prompt) + sampling.max_new_tokens
        if self._positions is not None and together > self._positions:
            both = "" if self._encodes else " for both together"
            raise PromptError(
                f"the prompt has {len(prompt)} tokens and asks for {sampling.max_new_tokens} new ones; "
                f"the model has {self._positions} positions{both}, shorten it or ask for fewer"
            )
        return prompt

    def add(self, key: int, request: Request) -> None:
        """Queue a request; PromptError where the model cannot answer it."""
        prompt, sampling = self.tokens(request), request.sampling
        given = [] if self._encodes else prompt
        text = Stream(self._words.text, given, sampling.stop)
        self._waiting[key] = Row(key, prompt, given, sampling, text, generator_of(sampling))

    def has(self, key: int) -> bool:
        """The request waits or runs."""
        return key in self._waiting or any(row.key == key for each in self._running for row in each.rows)

    def cancel(self, key: int) -> None:
        """Forget a request."""
        self._waiting.pop(key, None)
        for generation in self._running:
            for row in generation.rows:
                row.ended = row.ended or row.key == key
        self._leave()

    def step(self) -> list[Piece]:
        """A token for each request that runs, and for those that begin now."""
        self._begin()
        pieces = [piece for generation in self._running for piece in generation.step()]
        self._leave()
        return pieces

    @property
    def busy(self) -> bool:
        """Something waits or runs."""
        return bool(self._waiting or self._running)

    @property
    def capacity(self) -> int:
        """Requests that may run at once."""
        return self._capacity

    def follow(self) -> None:
        """Alone, it leads; where ranks share it, deepspeed.py says what follows."""
        raise AssertionError(f"engine {self._name} has one rank")

    def close(self) -> None:
        """End what runs."""
        self._waiting.clear()
        for generation in self._running:
            for row in generation.rows:
                row.ended = True
        self._leave()
        self._threads.close()

    def _begin(self) -> None:
        """Those that may run now: together, but for a beam search, which is alone."""
        free = self._capacity - sum(len(generation.rows) for generation in self._running)
        rows = [self._waiting.pop(key) for key in list(self._waiting)[: max(0, free)]]
        alone = [[row] for row in rows if row.sampling.num_beams > 1]
        together = [row for row in rows if row.sampling.num_beams == 1]
        for group in ([together] if together else []) + alone:
            about = self._pad, self._ends, self._words.spell
            self._running.append(Generation(self._model, group, *about, self._threads, self._choose))

    def _leave(self) -> None:
        for generation in self._running:
            if not generation.rows:
                generation.leave()
        self._running = [generation for generation in self._running if generation.rows]
