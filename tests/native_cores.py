"""The native engine's core on a checkpoint, without text and sockets, and schedules of arrivals run through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heavylift_runtime.engines.engine import Engine, Request, Sampling
from heavylift_runtime.families.stages import WHOLE, Stage
from heavylift_runtime.native.architectures import Model, model_of
from heavylift_runtime.native.batch import Batch, Chunk, Source
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.core import TOKENS, Core
from heavylift_runtime.native.distributed import Alone, Group
from heavylift_runtime.native.limits import Limits
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.mesh import ALONE, Mesh
from heavylift_runtime.native.news import Arrival, News
from heavylift_runtime.native.sources import Folder

PLENTY = 1 << 40


@dataclass(frozen=True)
class Answer:
    """A sequence's tokens, the end-of-sequence token among them where it ended so."""

    tokens: list[int]
    finish_reason: str


def model_on(
    folder: Path,
    group: Group | None = None,
    dtype: torch.dtype = torch.float32,
    stage: Stage = WHOLE,
    quantize: str = "none",
) -> Model:
    """The model of a folder, on one rank of a stage."""
    group = Alone() if group is None else group
    checkpoint = Checkpoint.open(Folder(folder), group.rank, group.world, stage)
    assert checkpoint.family.check(checkpoint.config, group.world, stage.of) == []
    with torch.inference_mode(), Loader(checkpoint, group.rank, group.world, dtype, quantize=quantize) as loader:
        return model_of(checkpoint.config, loader, group)


def core_of(model: Model, *, slots: int = 4, budget: int = PLENTY, tokens: int = TOKENS, **settings: Any) -> Core:
    """Ends at token 1; room for 128 tokens of prompt and answer."""
    return Core(model, 0, {1}, slots, budget, Limits.of(model, 128), tokens=tokens, **settings)


def arrival(key: int, prompt: Sequence[int], limit: int, **sampling: Any) -> Arrival:
    return Arrival(key, tuple(prompt), Sampling(limit, **sampling), sampling.get("seed", 0))


def run(core: Core, schedule: Mapping[int, News]) -> dict[int, Answer]:
    """What each sequence got, news coming at the steps that they are written for; cancelled ones are missing."""
    tokens: dict[int, list[int]] = {}
    answers: dict[int, Answer] = {}
    step = 0
    with torch.inference_mode():
        while core.busy or step <= max(schedule):
            for progress in core.step(schedule.get(step, News())):
                key = progress.sequence.key
                assert key not in answers, "an answer goes on after its end"
                assert progress.error is None, progress.error
                tokens.setdefault(key, []).extend(chosen.token for chosen in progress.chosen)
                if progress.finish_reason is not None:
                    answers[key] = Answer(tokens[key], progress.finish_reason)
            step += 1
            assert step < 5000
    return answers


def answers_of(core: Core, prompts: Sequence[Sequence[int]], limits: Sequence[int], **sampling: Any) -> list[Answer]:
    """All at once."""
    news = News(tuple(arrival(key, *each, **sampling) for key, each in enumerate(zip(prompts, limits, strict=True))))
    answers = run(core, {0: news})
    return [answers[key] for key in range(len(prompts))]


def through(model: Model, mesh: Mesh, count: int, stage: Callable[[Tensor | None], Tensor]) -> Tensor | None:
    """`count` rows through all stages, one after another: what the last one gives, None on the others."""
    x = None if mesh.stage.first else mesh.take((count, model.width), model.stream)
    given = stage(x)
    if mesh.stage.last:
        return given
    mesh.hand_on(given)
    return None


def forced_logits(
    model: Model, prompts: Sequence[Sequence[int]], tokens: Tensor, mesh: Mesh = ALONE
) -> tuple[Tensor, Tensor]:
    """Of a decoder's prompts, all tokens together, (N, V), and then at each of `tokens` (B, T): (B, T, V).

    With an encoder there is nothing to say of the prompts; `tokens` begin with the start token.
    """

    def logits(batch: Batch) -> Tensor:
        count = len(batch.tokens)
        hidden = through(model, mesh, count, lambda x: model.forward(batch, stores, x))
        own = None if hidden is None else vocabulary.logits(vocabulary.scores(hidden))
        return mesh.tell(own, (count, vocabulary.size), torch.float32)

    sources = [Source(slot, tuple(prompt)) for slot, prompt in enumerate(prompts)]
    stores = model.stores(len(prompts), 64, 128)
    vocabulary, count = model.vocabulary, 0 if model.encodes else 1
    read = [len(prompt) for prompt in prompts] if model.encodes else []
    said, steps = torch.zeros(0), []
    with torch.inference_mode():
        if not model.encodes:
            chunks = [(Chunk(slot, 0, len(prompt)), prompt) for slot, prompt in enumerate(prompts)]
            said = logits(replace(Batch.of([], chunks), wanted=None))
        for place, column in enumerate(tokens.unbind(1)):
            rows = [
                (token, count * len(prompt) + place) for token, prompt in zip(column.tolist(), prompts, strict=True)
            ]
            if model.encodes and place == 0:
                total = sum(map(len, prompts))
                hidden = through(model, mesh, total, lambda x: model.encode(sources, x))
                model.remember(sources, mesh.tell(hidden, (total, model.width), model.dtype), stores)
            steps.append(logits(Batch.of(rows, read=read)))
    return said, torch.stack(steps, 1) if steps else torch.zeros(0)


@dataclass(frozen=True)
class Reply:
    """An engine's whole answer to a request."""

    text: str
    finish_reason: str
    prompt_tokens: int
    generated_tokens: int


def replies_of(engine: Engine, requests: Sequence[Request]) -> list[Reply]:
    """All at once, each answered to its end; an error is an AssertionError."""
    texts = [""] * len(requests)
    replies: dict[int, Reply] = {}
    for key, request in enumerate(requests):
        engine.add(key, request)
    while engine.busy:
        for piece in engine.step():
            assert piece.error is None and piece.key not in replies, piece
            texts[piece.key] += "".join(token.text for token in piece.tokens)
            if piece.finish_reason is not None:
                counts = piece.prompt_tokens, piece.generated_tokens
                replies[piece.key] = Reply(texts[piece.key], piece.finish_reason, *counts)
    return [replies[key] for key in range(len(requests))]
