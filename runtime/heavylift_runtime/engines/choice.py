"""The next token of one request from its scores: penalties, temperature, the cuts, the draw. Not a model, not a batch.

In the order of transformers' LogitsProcessors: penalties, fewest tokens, temperature, top-k, top-p, min-p. Frequency
and presence penalties are OpenAI's: over generated tokens only. Log-probabilities are the model's, before all of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heavylift_runtime.engines.engine import Sampling


@dataclass(frozen=True)
class Choice:
    """A token, and the log-probabilities that were asked for."""

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()


def generator_of(sampling: Sampling) -> torch.Generator | None:
    """The request's own source of chance; None where it needs none."""
    if sampling.temperature == 0:
        return None
    generator = torch.Generator()
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed % 2**63)
    return generator


def choose(
    scores: Tensor,
    given: Sequence[int],
    generated: Sequence[int],
    sampling: Sampling,
    ends: Collection[int],
    generator: torch.Generator | None,
) -> Choice:
    """From scores (vocabulary,), fp32, on the CPU; they are left as they are."""
    logits = _penalized(scores.clone(), given, generated, sampling)
    if len(generated) < sampling.min_new_tokens and ends:
        logits[list(ends)] = -torch.inf
    if generator is None:
        token = int(logits.argmax())
    else:
        token = int(torch.multinomial(_cut(logits, sampling).softmax(-1), 1, generator=generator))
    if sampling.logprobs is None:
        return Choice(token, None)
    own = scores.log_softmax(-1)
    best = own.topk(min(sampling.logprobs, len(own))) if sampling.logprobs else None
    top = () if best is None else tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return Choice(token, float(own[token]), top)


def _penalized(logits: Tensor, given: Sequence[int], generated: Sequence[int], sampling: Sampling) -> Tensor:
    if sampling.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({*given, *generated}), dtype=torch.long)
        own = logits[seen]
        factor = sampling.repetition_penalty
        logits[seen] = torch.where(own < 0, own * factor, own / factor)
    if generated and (sampling.frequency_penalty or sampling.presence_penalty):
        counts = torch.bincount(torch.tensor(generated), minlength=len(logits))
        logits -= sampling.frequency_penalty * counts + sampling.presence_penalty * (counts > 0)
    return logits


def _cut(logits: Tensor, sampling: Sampling) -> Tensor:
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < len(logits):
        logits[logits < logits.topk(sampling.top_k).values[-1]] = -torch.inf
    if sampling.top_p < 1.0:
        ordered, places = logits.sort(descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        logits[places[before >= sampling.top_p]] = -torch.inf  # the likeliest one always stays
    if sampling.min_p > 0.0:
        probabilities = logits.softmax(-1)
        logits[probabilities < sampling.min_p * probabilities.max()] = -torch.inf
    return logits
