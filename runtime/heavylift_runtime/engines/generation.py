"""Requests that transformers' own `generate` answers together, a step at a time. Not an engine: accelerate.py is one.

`generate` runs in a thread and is stopped and let go at every token: our choice of each row's token is a logits
processor, and our knowledge of which rows have ended a stopping criterion. So every model that transformers can
generate with, with whatever cache it has, is stepped, by its public ways only.

The threads are there before the first request: one that begins where memory is short may die before its first line,
and Python waits for it for ever.
"""

from __future__ import annotations

import copy
import queue
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from heavylift_runtime.engines.choice import Choice, choose
from heavylift_runtime.engines.engine import Piece, Sampling, Token
from heavylift_runtime.errors import ran_out
from heavylift_runtime.native.stream import Stream

_DECIDED = (
    "eos_token_id", "forced_eos_token_id", "max_length", "max_new_tokens", "min_length", "min_new_tokens", "max_time",
    "stop_strings", "temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty",
    # other ways to search than a token for each row and step, and other results than tokens
    "penalty_alpha", "dola_layers", "prompt_lookup_num_tokens", "num_beam_groups", "diversity_penalty", "constraints",
    "force_words_ids", "return_dict_in_generate", "output_scores", "output_logits", "output_attentions",
    "output_hidden_states",
)  # fmt: skip


@dataclass(eq=False)
class Row:
    """One request: what it reads, what it has got."""

    key: int
    prompt: list[int]
    given: list[int]
    """What the decoder reads first: the prompt, or nothing where an encoder reads it."""
    sampling: Sampling
    text: Stream
    generator: torch.Generator | None
    generated: list[int] = field(default_factory=list)
    ended: bool = False

    def take(self, choice: Choice, ends: frozenset[int], spell: Callable[[int], str]) -> Piece:
        """One token more."""
        self.generated.append(choice.token)
        count, sampling = len(self.generated), self.sampling
        finish = None
        if choice.token in ends and not sampling.ignore_eos:
            finish = "eos_token"
        elif count == sampling.max_new_tokens:
            finish = "length"
        # a mark of the end has no text, also where the tokenizer spells it
        text = self.text.end() if finish == "eos_token" else self.text.add(choice.token, last=finish is not None)
        finish = "stop_sequence" if self.text.stopped else finish
        self.ended = finish is not None
        top = tuple((token, spell(token), logprob) for token, logprob in choice.top)
        return Piece(self.key, (Token(choice.token, text, choice.logprob, top),), finish, len(self.prompt), count)


Pick = Callable[[Tensor, Sequence[Row], frozenset[int]], list[Choice | None]]


def pick(scores: Tensor, rows: Sequence[Row], ends: frozenset[int]) -> list[Choice | None]:
    """Each row's token from scores (rows, vocabulary), fp32, on the CPU; None for a row that has ended."""
    return [
        None if row.ended else choose(own, row.given, row.generated, row.sampling, ends, row.generator)
        for own, row in zip(scores, rows, strict=True)
    ]


def leave_to_requests(config: GenerationConfig) -> None:
    """Takes out of a model's generation_config what each request decides; `generate` would fill it in."""
    config.do_sample, config.num_beams, config.num_return_sequences = False, 1, 1
    for name in _DECIDED:
        if getattr(config, name, None) is not None:
            setattr(config, name, None)


class Threads:
    """As many as there may be generations at once, from the start; an idle one costs a few pages."""

    def __init__(self, count: int) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"generation-{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def begin(self, work: Callable[[], None]) -> None:
        """Hands over what lets nothing escape, to whichever thread is free."""
        self._work.put(work)

    def close(self) -> None:
        """Every thread ends, once its work has."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # with the generation's tensors


class Generation:
    """Some rows, from their prompts to the end of the last one."""

    def __init__(
        self,
        model: Any,
        rows: Sequence[Row],
        pad: int,
        ends: frozenset[int],
        spell: Callable[[int], str],
        threads: Threads,
        choose: Pick = pick,
    ) -> None:
        """Rows of one beam search are alone. `choose`: where several ranks run the model, all choose the same."""
        self._model, self._rows, self._pad, self._ends, self._spell = model, rows, pad, ends, spell
        self._pick = choose
        self._pieces: list[Piece] = []
        self._failure: Exception | None = None
        self._over = False
        self._go, self._came = threading.Semaphore(0), threading.Semaphore(0)
        threads.begin(self._run)

    @property
    def rows(self) -> list[Row]:
        """Those that still run."""
        return [row for row in self._rows if not row.ended]

    def step(self) -> list[Piece]:
        """A token for each row that runs; a row that failed has an error."""
        self._advance()
        if self._over and self.rows:
            self._fail(self._failure or RuntimeError("transformers ended before the requests did"))
        pieces, self._pieces = self._pieces, []
        return pieces

    def leave(self) -> None:
        """Let the thread go, once no row runs any more."""
        assert not self.rows
        while not self._over:
            self._advance()

    def _advance(self) -> None:
        if not self._over:
            self._go.release()
            self._came.acquire()

    def _run(self) -> None:
        """Whatever happens, the one who waits is told; nothing of that takes memory."""
        self._go.acquire()
        try:
            with torch.inference_mode():
                if self.rows:
                    self._generate()
        except Exception as error:  # the other rows of the engine go on
            self._failure = error
            with suppress(Exception):
                traceback.print_exc()
        finally:
            self._over = True
            self._came.release()

    def _fail(self, error: Exception) -> None:
        """Every row that runs ends."""
        failure = (507 if ran_out(error) else 424, f"the model failed: {type(error).__name__}: {error}")
        for row in self.rows:
            row.ended = True
            self._pieces.append(Piece(row.key, (), None, len(row.prompt), len(row.generated), failure))

    def _generate(self) -> None:
        beams = self._rows[0].sampling.num_beams
        length = max(len(row.prompt) for row in self._rows)
        right = bool(self._model.config.is_encoder_decoder)
        device = self._model.device
        if device.type == "meta":  # the first layer is on the disk; accelerate's hooks bring it and the inputs
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        ids = torch.full((len(self._rows), length), self._pad)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(self._rows):
            place = slice(0, len(row.prompt)) if right else slice(length - len(row.prompt), length)
            ids[number, place] = torch.tensor(row.prompt)
            mask[number, place] = 1
        inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        if beams > 1:
            found = self._model.generate(**inputs, generation_config=self._config(beams))
            self._deliver(found[self._rows[0].sampling.beam].tolist())
            return
        self._model.generate(
            **inputs,
            generation_config=self._config(1),
            logits_processor=LogitsProcessorList([_Chooser(self._choose)]),
            stopping_criteria=StoppingCriteriaList([_Ended(self._rows)]),
        )

    def _config(self, beams: int) -> GenerationConfig:
        config: GenerationConfig = copy.deepcopy(self._model.generation_config)
        config.max_new_tokens = max(row.sampling.max_new_tokens for row in self._rows)
        config.pad_token_id, config.num_beams = self._pad, beams
        if beams > 1:
            sampling = self._rows[0].sampling
            config.eos_token_id = None if sampling.ignore_eos else sorted(self._ends)
            config.length_penalty, config.num_return_sequences = sampling.length_penalty, sampling.beam + 1
            config.min_new_tokens = sampling.min_new_tokens
            config.repetition_penalty = sampling.repetition_penalty
        return config

    def _choose(self, scores: Tensor) -> Tensor:
        """The scores with nothing but each row's token; waits until the next step is wanted."""
        if not self.rows:
            return scores  # `generate` looks late at what has ended where it does not run on the CPU
        tokens = [self._pad] * len(self._rows)
        for number, choice in enumerate(self._pick(scores.float().cpu(), self._rows, self._ends)):
            if choice is not None:
                tokens[number] = choice.token
                self._pieces.append(self._rows[number].take(choice, self._ends, self._spell))
        self._came.release()
        self._go.acquire()
        forced = torch.full_like(scores, -torch.inf)
        forced[torch.arange(len(tokens)), torch.tensor(tokens)] = 0.0
        return forced

    def _deliver(self, tokens: list[int]) -> None:
        """The best beam, at once."""
        (row,) = self._rows
        skipped = 1 if self._model.config.is_encoder_decoder else len(row.prompt)
        taken: list[Token] = []
        for token in tokens[skipped:]:
            piece = row.take(Choice(token, None), self._ends, self._spell)
            taken += piece.tokens
            if row.ended:
                break
        self._pieces.append(Piece(row.key, tuple(taken), piece.finish_reason, len(row.prompt), len(row.generated)))


class _Chooser(LogitsProcessor):
    def __init__(self, choose: Callable[[Tensor], Tensor]) -> None:
        self._choose = choose

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        return self._choose(scores)  # type: ignore[return-value]  # torch's own operations give plain tensors


class _Ended(StoppingCriteria):
    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        return torch.tensor([row.ended for row in self._rows], device=input_ids.device)  # type: ignore[return-value]
