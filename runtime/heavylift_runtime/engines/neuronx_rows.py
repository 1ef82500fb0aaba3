"""The requests of a model on NeuronCores: which rows a step has, and which tokens they are told. Not the SDK's calls.

Shapes are compiled, so a row is one of as many slots. Where the library batches continuously, a new request is read
into its own slot beside those that run; else all rows, the new and the old, are read again together when one joins, as
LMI's "naive rolling batch" does (djl-serving, its documentation of Transformers-NeuronX).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heavylift_runtime.engines.choice import choose, generator_of
from heavylift_runtime.engines.engine import Piece, Request
from heavylift_runtime.engines.generation import Row
from heavylift_runtime.engines.neuronx_build import LIBRARIES, Build
from heavylift_runtime.engines.neuronx_sdk import Device
from heavylift_runtime.engines.words import Words
from heavylift_runtime.errors import PromptError
from heavylift_runtime.native.stream import Stream


@dataclass(eq=False)
class _Seat:
    """A row that runs, and how many of its tokens the device's cache holds."""

    row: Row
    cached: int = 0

    @property
    def tokens(self) -> list[int]:
        """The prompt and what followed."""
        return [*self.row.prompt, *self.row.generated]


class NeuronEngine:
    """One model, its slots, and the requests that wait for one."""

    def __init__(self, device: Device, build: Build, tokenizer: Any, vocabulary: int, ends: frozenset[int]) -> None:
        self._device, self._build, self._ends = device, build, ends
        self._words = Words(tokenizer, vocabulary)
        self._waiting: dict[int, Row] = {}
        self._seats: dict[int, _Seat] = {}

    def add(self, key: int, request: Request) -> None:
        """Queue a request; PromptError where what was compiled cannot answer it."""
        sampling, build = request.sampling, self._build
        if request.adapter is not None:
            raise PromptError(f"engine neuronx has no adapters: got {request.adapter!r}")
        if request.sampling.form is not None:
            raise PromptError(f"engine neuronx binds no answer to a form: got {request.sampling.form.kind}")
        if sampling.num_beams > 1:
            raise PromptError(f"engine neuronx has no beam search: got num_beams={sampling.num_beams}")
        prompt = self._words.tokens(request.prompt)
        if len(prompt) + sampling.max_new_tokens > build.longest:
            raise PromptError(
                f"the prompt has {len(prompt)} tokens and asks for {sampling.max_new_tokens} new ones; the model is "
                f"compiled for {build.longest} together (option.n_positions), shorten it or ask for fewer"
            )
        if build.limits.continuous and len(prompt) > build.prompts[-1]:
            raise PromptError(
                f"the prompt has {len(prompt)} tokens; {LIBRARIES[build.library]} is compiled for prompts of at most "
                f"{build.prompts[-1]} (option.context_length_estimate)"
            )
        text = Stream(self._words.text, prompt, sampling.stop)
        self._waiting[key] = Row(key, prompt, prompt, sampling, text, generator_of(sampling))

    def cancel(self, key: int) -> None:
        """Forget a request; its slot is free at once."""
        self._waiting.pop(key, None)
        self._seats = {slot: seat for slot, seat in self._seats.items() if seat.row.key != key}

    @torch.inference_mode()
    def step(self) -> list[Piece]:
        """A token for each row that runs, and for those that begin now."""
        joined = self._join()
        if not self._seats:
            return []
        scores = self._together() if self._build.limits.continuous else self._as_one(joined)
        pieces = []
        for slot, seat in list(self._seats.items()):
            row = seat.row
            seat.cached = len(seat.tokens)
            choice = choose(scores[slot], row.given, row.generated, row.sampling, self._ends, row.generator)
            pieces.append(row.take(choice, self._ends, self._words.spell))
            if row.ended:
                del self._seats[slot]
        return pieces

    @property
    def busy(self) -> bool:
        """Something waits or runs."""
        return bool(self._waiting or self._seats)

    @property
    def capacity(self) -> int:
        """The rows that were compiled."""
        return self._build.rows

    def follow(self) -> None:
        """There is one rank, and it leads."""
        raise AssertionError("engine neuronx has one rank")

    def close(self) -> None:
        """Forget all requests; the cores are given back when the process ends."""
        self._waiting.clear()
        self._seats.clear()

    def load(self) -> Mapping[str, float]:
        """For /metrics: the share of the compiled rows that run."""
        return {"rows": float(len(self._seats)), "rows_share": len(self._seats) / self._build.rows}

    def _join(self) -> bool:
        """Seats those that may run now, the oldest first; whether there were any."""
        ragged = self._build.limits.ragged
        if not self._waiting or (self._seats and not ragged):
            return False
        free = [slot for slot in range(self._build.rows) if slot not in self._seats]
        first = next(iter(self._waiting.values()))
        fitting = [key for key, row in self._waiting.items() if ragged or len(row.prompt) == len(first.prompt)]
        for slot, key in zip(free, fitting, strict=False):
            self._seats[slot] = _Seat(self._waiting.pop(key))
        return bool(free)

    def _together(self) -> Mapping[int, Tensor]:
        """Those that run go first: what is read into a slot after them stays there for the next step."""
        steps = {slot: seat for slot, seat in self._seats.items() if len(seat.tokens) - seat.cached == 1}
        scores: dict[int, Tensor] = {}
        if steps:
            scores.update(self._device.step(_last(steps)))
        reads = {slot: seat.tokens for slot, seat in self._seats.items() if slot not in steps}
        if reads:
            scores.update(self._device.read(reads))
        return scores

    def _as_one(self, joined: bool) -> Mapping[int, Tensor]:
        if joined or self._device.room < 1:
            return self._device.read({slot: seat.tokens for slot, seat in self._seats.items()})
        return self._device.step(_last(self._seats))


def _last(seats: Mapping[int, _Seat]) -> dict[int, tuple[int, int]]:
    """Slot → its newest token and the token's place."""
    return {slot: (seat.tokens[-1], len(seat.tokens) - 1) for slot, seat in seats.items()}
