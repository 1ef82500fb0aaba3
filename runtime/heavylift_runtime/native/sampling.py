"""Which token is next, for rows that do not simply take the likeliest: penalties, warping, drawing, as transformers.

Not beam search (beams.py), and no text. Every rank computes it on the same logits, with the same result. One request's
draws depend on its seed and on the place in its answer alone: no state, so that nobody else in the batch changes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from heavylift_runtime.engines.engine import Sampling
from heavylift_runtime.native.sequence import Sequence

NOTHING = -1
"""In a token's place: there was none to choose."""
LIKELY = 512
"""Tokens among which top-p looks first, before it sorts a whole vocabulary."""
COLD = 1e-30
"""Temperatures below leave nothing but the likeliest token; scores divided by them would be infinite."""


@dataclass(frozen=True)
class Chosen:
    """A token, with the log-probabilities that were asked for: the model's own, before penalties and temperature."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def is_plain(sampling: Sampling) -> bool:
    """The likeliest token, with nothing to know besides."""
    penalties = (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty)
    chosen = sampling.temperature == 0 and sampling.num_beams == 1 and sampling.logprobs is None
    return chosen and penalties == (1, 0, 0) and sampling.min_new_tokens == 0


def choose(logits: Tensor, sequence: Sequence, ends: Collection[int]) -> Chosen:
    """The next token of a row, from its logits (V,) in fp32; NOTHING where scores that are NaN leave none to draw."""
    sampling = sequence.sampling
    scores = penalized(logits, sequence, ends)
    if sampling.temperature < COLD:
        token = int(scores.argmax())
    else:
        ids, scores = likely(scores, sampling)
        if len(ids) == 0:  # no score is as high as one that is NaN
            return Chosen(NOTHING)
        # by id, for an order by probability would change with the last bit of a logit
        ids, order = ids.sort()
        steps = torch.softmax(scores[order].double(), 0).cumsum(0)
        place = int(torch.searchsorted(steps, uniform(sequence.seed, sequence.generated) * steps[-1], right=True))
        token = int(ids[min(place, len(ids) - 1)])
    return Chosen(token) if sampling.logprobs is None else told(token, torch.log_softmax(logits, 0), sampling.logprobs)


def told(token: int, logprobs: Tensor, count: int) -> Chosen:
    """A token with its log-probability, and the `count` likeliest tokens with theirs, of all tokens' (V,)."""
    best = logprobs.topk(min(count, len(logprobs)))
    return Chosen(token, float(logprobs[token]), tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)))


def penalized(scores: Tensor, sequence: Sequence, ends: Collection[int]) -> Tensor:
    """Scores (V,) after penalties and rules, without the end where more tokens must come; the argument stays as it is.

    `repetition_penalty` looks at the whole text, as in transformers (Keskar et al. 2019); the other two at what was
    generated, as in OpenAI's API.
    """
    sampling, scores = sequence.sampling, scores.clone()
    if sampling.repetition_penalty != 1:
        seen = torch.tensor(sorted(set(sequence.text)))
        values = scores[seen]
        penalty = sampling.repetition_penalty
        scores[seen] = torch.where(values < 0, values * penalty, values / penalty)
    if sampling.frequency_penalty != 0 or sampling.presence_penalty != 0:
        counts = Counter(sequence.text[sequence.given :])
        if counts:
            numbers = torch.tensor(list(counts.values()), dtype=scores.dtype)
            scores[list(counts)] -= sampling.frequency_penalty * numbers + sampling.presence_penalty
    if sequence.generated < sampling.min_new_tokens:
        scores[list(ends)] = -torch.inf
    return ruled(scores, sequence, ends) if sequence.rules.bind else scores


def ruled(scores: Tensor, sequence: Sequence, ends: Collection[int]) -> Tensor:
    """Scores (V,) after what the checkpoint asks of all answers, in place, in transformers' order."""
    rules, text, generated = sequence.rules, sequence.text, sequence.generated
    if size := rules.no_repeat_ngram_size:
        last = text[len(text) - size + 1 :]
        places = range(len(text) - size + 1) if len(last) == size - 1 else ()
        scores[[text[at + size - 1] for at in places if text[at : at + size - 1] == last]] = -torch.inf
    if rules.min_length and sequence.sampling.min_new_tokens == 0 and len(text) < rules.min_length:
        scores[list(ends)] = -torch.inf
    if rules.forced_bos_token_id is not None and len(text) == 1:
        scores = _only(scores, rules.forced_bos_token_id)
    if rules.forced_eos_token_id is not None and generated == sequence.sampling.max_new_tokens - 1:
        scores = _only(scores, rules.forced_eos_token_id)
    scores[list(rules.suppress_tokens)] = -torch.inf
    # a forced token is no first one: transformers' answers begin after it
    if generated == int(len(text) - generated == 1 and rules.forced_bos_token_id is not None):
        scores[list(rules.begin_suppress_tokens)] = -torch.inf
    return scores


def _only(scores: Tensor, token: int) -> Tensor:
    """Nothing but one token, for certain."""
    scores.fill_(-torch.inf)
    scores[token] = 0
    return scores


def likely(scores: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The tokens that may be drawn, and their scores, after temperature, top-k, top-p and min-p, in this order."""
    scores = scores / sampling.temperature
    ids = torch.arange(len(scores))
    if 0 < sampling.top_k < len(scores):
        ids = (scores >= scores.topk(sampling.top_k).values[-1]).nonzero().squeeze(1)
        scores = scores[ids]
    if sampling.top_p < 1:
        kept = _nucleus(scores, sampling.top_p)
        ids, scores = ids[kept], scores[kept]
    if sampling.min_p > 0:
        kept = (scores >= scores.max() + torch.tensor(sampling.min_p).log()).nonzero().squeeze(1)
        ids, scores = ids[kept], scores[kept]
    return ids, scores


def _nucleus(scores: Tensor, share: float) -> Tensor:
    """Where the likeliest tokens are that together have a share of the probability (Holtzman et al. 2020)."""
    whole = scores.logsumexp(0)
    for count in (LIKELY, len(scores)):
        values, places = scores.topk(min(count, len(scores)))
        probabilities = (values - whole).exp()
        above = probabilities.cumsum(0) - probabilities
        if count >= len(scores) or above[-1] >= share:
            break
    above[0] = -1  # the likeliest one stays, whatever the share
    return places[above < share]


def uniform(seed: int, place: int) -> float:
    """A number in [0, 1) for one place of one request."""
    digest = blake2b(f"{seed}/{place}".encode("ascii"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53
