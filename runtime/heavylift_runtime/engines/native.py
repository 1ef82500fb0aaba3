"""The native engine behind the seam of engine.py: loads a checkpoint on every rank, and keeps the ranks in step.

Not a server and not a model: it turns prompts into tokens on rank 0, tells the others, and turns tokens into replies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from heavylift_runtime.engines.engine import Engine, Piece, Reply, Request, Token
from heavylift_runtime.errors import LoadError, PromptError, RuntimeFault
from heavylift_runtime.native.architectures import Model, model_of
from heavylift_runtime.native.batch import Batch, receive, send_end
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.generate import Answer, greedy
from heavylift_runtime.native.loader import DTYPES, Loader
from heavylift_runtime.native.shared_memory import join
from heavylift_runtime.native.sources import source_of
from heavylift_runtime.native.text import Markers, Text
from heavylift_runtime.options import Options

NAMES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SMALL = 64 * 1000 * 1000
"""Bytes of weights on a rank: below, a second thread gains nothing, and on a busy machine loses 10 times."""
LONGEST = 2048
"""Tokens of a prompt, and of an answer; the encoder takes memory with the square of the first."""
WIDEST = 32
"""Characters of a token, at most as a mean: megabytes are refused before tokenizing them holds up everybody."""


def load(
    options: Options,
    model_dir: Path,
    rank: int,
    world: int,
    rendezvous: str,
    report: Callable[[str], None] = lambda line: None,
) -> Engine:
    """This rank's engine, loaded and in step with the others; LoadError says what does not fit.

    The checkpoint is proved before the ranks meet, so that a bad one is refused by each of them at once.
    """
    started = time.monotonic()
    checkpoint = Checkpoint.open(source_of(options.model_id, model_dir), rank, world)
    if faults := checkpoint.family.check(checkpoint.config, world):
        raise LoadError("\n".join(faults))
    dtype = _dtype(options.dtype, checkpoint)
    markers = Markers.of(checkpoint)
    text = Text(checkpoint) if rank == 0 else None
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(_threads(checkpoint, world, dtype, copies=options.workers))
    report(f"checkpoint: {checkpoint.source.place} is sound, {len(checkpoint.tensors)} tensors")
    group = join(rank, world, rendezvous)
    with torch.inference_mode(), Loader(checkpoint, rank, world, dtype, report) as loader:
        model = model_of(checkpoint.config, loader, group)
    group.barrier()
    report(f"model: ready on rank {rank} of {world} after {time.monotonic() - started:.2f} s")
    return NativeEngine(model, text, markers, group, options.batch_size)


def _dtype(wanted: str, checkpoint: Checkpoint) -> torch.dtype:
    """What the engine computes in: as asked for, or as the embedding is stored."""
    stored = checkpoint.find(checkpoint.agree()[0])
    assert stored is not None
    dtype = DTYPES[stored.dtype] if wanted == "auto" else NAMES.get(wanted)
    if dtype not in NAMES.values():
        raise LoadError(
            f"'dtype' is {wanted!r} and the weights are {stored.dtype}: the native engine computes in 'fp32' or "
            "'bf16'; set one of them (processors are slow in fp16, and T5's feed-forward layers overflow in it)"
        )
    assert dtype is not None
    return dtype


def _threads(checkpoint: Checkpoint, world: int, dtype: torch.dtype, copies: int) -> int:
    """This rank's share of the cores; one for a model whose products are too small to be worth dividing."""
    held = checkpoint.family.bytes_per_rank(checkpoint.config, world, dtype.itemsize, checkpoint.tensors)
    return 1 if held < SMALL else max(1, len(os.sched_getaffinity(0)) // (world * copies))


class NativeEngine:
    """One rank of a loaded model."""

    def __init__(self, model: Model, text: Text | None, markers: Markers, group: Group, batch_size: int) -> None:
        """`text`: on rank 0 only."""
        self._model, self._text, self._markers, self._group = model, text, markers, group
        self._batch_size = batch_size
        self._broken: str | None = None
        self._waiting: dict[int, Request] = {}

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    @property
    def capacity(self) -> int:
        return self._batch_size

    def add(self, key: int, request: Request) -> None:
        """Queues a request; PromptError where it cannot be served."""
        self._encode([request])
        self._waiting[key] = request

    def cancel(self, key: int) -> None:
        """Forgets a request."""
        self._waiting.pop(key, None)

    def step(self) -> list[Piece]:
        """A whole batch of what waits."""
        keys = list(self._waiting)[: self._batch_size]
        replies = self.generate([self._waiting.pop(key) for key in keys])
        return [
            Piece(key, (Token(-1, reply.text),), reply.finish_reason, reply.prompt_tokens, reply.generated_tokens)
            for key, reply in zip(keys, replies, strict=True)
        ]

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """Greedy answers, in order; PromptError before anything is computed, RuntimeFault when a rank is lost."""
        assert self._text is not None, "generate is for rank 0; the others follow"
        prompts = self._encode(requests)
        limits = [request.sampling.max_new_tokens for request in requests]
        answers: list[Answer] = []
        for first in range(0, len(requests), self._batch_size):
            rows = slice(first, first + self._batch_size)
            answers += self._lead(Batch.of(prompts[rows], limits[rows], self._markers.pad))
        return [
            Reply(self._text.decode(answer.tokens), answer.finish_reason, len(prompt), len(answer.tokens))
            for answer, prompt in zip(answers, prompts, strict=True)
        ]

    def _encode(self, requests: Sequence[Request]) -> list[list[int]]:
        """Each prompt's tokens; PromptError where one cannot be served."""
        assert self._text is not None
        if faults := [fault for row, request in enumerate(requests) if (fault := _fault(row, request))]:
            raise PromptError("\n".join(faults))
        texts = iter(self._text.encode([each.prompt for each in requests if isinstance(each.prompt, str)]))
        prompts = [next(texts) if isinstance(each.prompt, str) else list(each.prompt) for each in requests]
        limits = [request.sampling.max_new_tokens for request in requests]
        lengths = enumerate(zip(prompts, limits, strict=True))
        if faults := [fault for row, each in lengths if (fault := _tokens_fault(row, *each, self._model))]:
            raise PromptError("\n".join(faults))
        return prompts

    def follow(self) -> None:
        """Runs rank 0's batches until it closes; RuntimeFault when it is gone without a word."""
        try:
            while (batch := receive(self._group)) is not None:
                self._run(batch)
        except RuntimeError as error:  # gloo's only type of error
            raise RuntimeFault(f"rank {self._group.rank} stops, for another rank is gone: {error}") from error
        self._group.close()

    def close(self) -> None:
        """Lets the followers return; those that are gone already are no fault here."""
        if self._broken is None:
            with suppress(RuntimeError):
                send_end(self._group)
        self._group.close()

    def _lead(self, batch: Batch) -> list[Answer]:
        if self._broken is not None:
            raise RuntimeFault(f"the ranks are out of step since {self._broken}; start the worker again")
        try:
            batch.send(self._group)
            return self._run(batch)
        except (RuntimeError, MemoryError) as error:
            if self._group.world > 1:
                # the others wait in the middle of a batch, and would take the next one for the rest of it
                self._broken = f"{type(error).__name__}: {error}"
            raise RuntimeFault(f"the batch failed: {error}") from error

    def _run(self, batch: Batch) -> list[Answer]:
        """What every rank does with a batch, with the same result on each."""
        with torch.inference_mode():
            decoding = self._model.begin(batch.ids, batch.lengths, self._markers.start)
            return greedy(decoding, batch.limits, self._markers.ends)


def _fault(row: int, request: Request) -> str | None:
    """Why a request cannot be served, or None."""
    if not 1 <= request.sampling.max_new_tokens <= LONGEST:
        return f"prompt {row} asks for {request.sampling.max_new_tokens} new tokens; ask for 1 to {LONGEST}"
    if len(request.prompt) > LONGEST * WIDEST:
        return f"prompt {row} has {len(request.prompt)} characters; at most {LONGEST * WIDEST} are read, shorten it"
    if isinstance(request.prompt, str) and any("\ud800" <= character <= "\udfff" for character in request.prompt):
        return f"prompt {row} holds half of a UTF-16 pair, which is no character; send the text as UTF-8"
    return None


def _tokens_fault(row: int, prompt: Sequence[int], limit: int, model: Model) -> str | None:
    """Why a tokenized prompt cannot be served by this model, or None."""
    if not prompt:
        return f"prompt {row} has no tokens; send at least one character"
    if len(prompt) > LONGEST:
        return f"prompt {row} has {len(prompt)} tokens; at most {LONGEST} are read, shorten it"
    if max(prompt) >= model.vocabulary.size:
        return (
            f"prompt {row} has token {max(prompt)}, the model knows {model.vocabulary.size}; "
            "its tokenizer has words that it never learned, leave them out"
        )
    positions = model.positions
    if positions is not None and len(prompt) + limit > positions:
        return (
            f"prompt {row} has {len(prompt)} tokens and asks for {limit} new ones; "
            f"the model has {positions} positions for both together, shorten it or ask for fewer"
        )
    return None
