"""The tokens that a pass led to: found where the head is, on the last stage, and told to all ranks.

Not the choice itself (sampling.py, beams.py). Tokens travel; of beam searches, whose next beams every rank works out
for itself, the logits do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass

import torch
from torch import Tensor

from heavylift_runtime.native.mesh import Mesh
from heavylift_runtime.native.sampling import NOTHING, Chosen, choose
from heavylift_runtime.native.sequence import Sequence
from heavylift_runtime.native.vocabulary import Vocabulary


@dataclass(frozen=True)
class Given:
    """What the head gets, pass by pass."""

    parts: Several[tuple[Tensor, Several[int]]]
    """(M, d), and which of the rows somebody wants a token for; always as many rows go through the head."""

    def through(self, head: Callable[[Tensor], Tensor]) -> Tensor:
        """What a part of the vocabulary makes of the rows that are somebody's, (N, …)."""
        found = [(head(hidden), kept) for hidden, kept in self.parts]
        own = [scores if len(kept) == len(scores) else scores[list(kept)] for scores, kept in found]
        return own[0] if len(own) == 1 else torch.cat(own)

    def lost(self) -> list[int]:
        """The places of rows that come to the head as NaN: of damaged weights, or where fp16 overflowed on the way."""
        if not any(math.isnan(hidden.sum()) for hidden, _ in self.parts):  # less than looking at each row takes
            return []
        return self.through(lambda hidden: hidden).isnan().any(1).nonzero().flatten().tolist()


@dataclass(frozen=True)
class Found:
    """By the place among the sequences that wanted a token."""

    chosen: Mapping[int, Chosen]
    logits: Mapping[int, Tensor]
    """(V,) fp32, of each row of a beam search"""

    @classmethod
    def of(
        cls, wanting: list[Sequence], given: Given | None, vocabulary: Vocabulary, mesh: Mesh, ends: Collection[int]
    ) -> Found:
        """`given`: on the last stage, what the head gets for those that want a token. Called on all ranks."""
        plain = [place for place, each in enumerate(wanting) if each.plain]
        beams = [place for place, each in enumerate(wanting) if each.width > 1]
        drawn = [place for place, each in enumerate(wanting) if not each.plain and each.width == 1]
        chosen: dict[int, Chosen] = {}
        logits: dict[int, Tensor] = {}
        scores = None if given is None or not (drawn or beams) else given.through(vocabulary.scores)
        likeliest = None if scores is None or not plain else vocabulary.likeliest(scores).cpu()
        if plain and given is not None and scores is None:
            likeliest = given.through(vocabulary.greedy).cpu()
        lost = [] if given is None else given.lost()  # after what a GPU has begun to compute
        if plain:
            if likeliest is not None and lost:
                likeliest[lost] = NOTHING
            tokens = mesh.tell(likeliest, (len(wanting),), torch.int64).tolist()
            chosen |= {place: Chosen(tokens[place]) for place in plain}
        every = None if scores is None else vocabulary.logits(scores[drawn + beams]).cpu()
        if drawn:
            rows = [wanting[place] for place in drawn]
            own = None if every is None else [choose(*pair, ends) for pair in zip(every, rows, strict=False)]
            if own is not None and lost:
                own = [Chosen(NOTHING) if place in lost else each for place, each in zip(drawn, own, strict=True)]
            if own is None or mesh.stage.of > 1:
                own = _told(own, rows, vocabulary.size, mesh)
            chosen |= dict(zip(drawn, own, strict=True))
        if beams:
            own_logits = None if every is None else every[len(drawn) :]
            logits = dict(zip(beams, mesh.tell(own_logits, (len(beams), vocabulary.size), torch.float32), strict=True))
        return cls(chosen, logits)


def _told(own: list[Chosen] | None, rows: list[Sequence], words: int, mesh: Mesh) -> list[Chosen]:
    """Choices as numbers, (rows, 2 + 2 k): the token, its log-probability, k likeliest tokens, and theirs."""
    asked = [each.sampling.logprobs for each in rows]
    most = min(max((count or 0 for count in asked), default=0), words)
    table = None
    if own is not None:
        table = torch.zeros(len(rows), 2 + 2 * most, dtype=torch.float64)  # exact for every token and every fp32
        for line, each in zip(table, own, strict=True):
            count = len(each.top)
            line[0], line[1] = each.token, math.nan if each.logprob is None else each.logprob
            line[2 : 2 + count] = torch.tensor([token for token, _ in each.top], dtype=torch.float64)
            line[2 + most : 2 + most + count] = torch.tensor([logprob for _, logprob in each.top], dtype=torch.float64)
    told = mesh.tell(table, (len(rows), 2 + 2 * most), torch.float64).tolist()
    return [_read(line, count, most) for line, count in zip(told, asked, strict=True)]


def _read(line: list[float], asked: int | None, most: int) -> Chosen:
    """One row of the table; `asked`: log-probabilities that its request wants."""
    if asked is None:
        return Chosen(int(line[0]))
    tokens, logprobs = line[2 : 2 + most][:asked], line[2 + most :][:asked]
    return Chosen(int(line[0]), line[1], tuple(zip(map(int, tokens), logprobs, strict=True)))
