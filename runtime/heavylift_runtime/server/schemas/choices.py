"""Several answers to one prompt: n and best_of become requests of their own, and the best of them the choices.

The engine knows nothing of it. Request p * best_of + i is try i at prompt p.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.server.schemas.exchange import Finished

MAX_ROWS = 256  # requests to the engine that one request of a client may become
MOST_CHOICES = 64


@dataclass(frozen=True)
class Choices:
    """How many answers a prompt gets (`n`), and of how many they are the best."""

    n: int = 1
    best_of: int = 1

    def fault(self, sampling: Sampling) -> list[str]:
        """What a beam search cannot give."""
        if 1 < sampling.num_beams < self.best_of:
            return [f"{self.best_of} answers are more than a search of 'num_beams' {sampling.num_beams} finds"]
        return []

    def expand(
        self, prompts: Sequence[str | tuple[int, ...]], sampling: Sampling, adapters: Sequence[str] = ()
    ) -> tuple[Request, ...]:
        """The requests; `adapters` has one for each prompt, one for all, or none. To choose takes log-probabilities."""
        if self.best_of > self.n and sampling.logprobs is None:
            sampling = replace(sampling, logprobs=0)
        if sampling.num_beams > 1:  # one search finds them all; each request names its own
            more = (replace(sampling, beam=index) for index in range(1, self.best_of))
        else:
            more = (replace(sampling, seed=derived(sampling.seed, index)) for index in range(1, self.best_of))
        tries = [sampling, *more]
        own = adapters if len(adapters) == len(prompts) else [adapters[0] if adapters else None] * len(prompts)
        return tuple(
            Request(prompt, one, adapter) for prompt, adapter in zip(prompts, own, strict=True) for one in tries
        )

    def of(self, finished: Sequence[Finished]) -> list[list[Finished]]:
        """For each prompt, all of its answers, those that count first: by their log-probability for each token."""
        groups = [list(finished[at : at + self.best_of]) for at in range(0, len(finished), self.best_of)]
        return [sorted(group, key=_goodness, reverse=True) if self.best_of > self.n else group for group in groups]


def derived(seed: int | None, index: int) -> int | None:
    """The seed of try `index`: the first has the client's own; 63 bits of a SHA-256 for the others."""
    if seed is None or index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}:{index}".encode()).digest()[:8]) >> 1


def _goodness(finished: Finished) -> float:
    known = [token.logprob for token in finished.tokens if token.logprob is not None]
    return sum(known) / len(known) if known else -math.inf
