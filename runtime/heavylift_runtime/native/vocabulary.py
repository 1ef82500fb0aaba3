"""The two ends of a model whose vocabulary is split over the ranks: embedding of tokens, choice of the next one.

Not the model between them. A rank holds rows `[start, start + n)` of the embedding and the same rows of the head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.kernels import calls as kernels
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.quantize.forms import Matrix


class Vocabulary:
    """Embedding table and head; `head` None: the head is the embedding (tied), and held once."""

    def __init__(
        self, group: Group, size: int, table: Tensor | None, head: Matrix | None, bias: Tensor | None = None
    ) -> None:
        """`table`, `head`, `bias`: this rank's rows (n, d) and scores (n,) of a vocabulary of `size`.

        Of a pipeline, the first stage has the table and the last one the head; those between have neither.
        """
        self._group, self.size, self._table = group, size, table
        self._start = size * group.rank // group.world
        self._head: Linear | None = None
        if head is not None:
            self._head = Linear(head, bias)
        elif table is not None:
            self._head = Linear(table, bias, shared=True)

    def embed(self, tokens: Tensor) -> Tensor:
        """(N,) int64 → (N, d)"""
        assert self._table is not None, "the first stage embeds"
        if self._group.world == 1:
            return F.embedding(tokens, self._table)
        local = tokens - self._start
        mine = (local >= 0) & (local < len(self._table))
        rows = F.embedding(local.where(mine, 0), self._table) * mine.unsqueeze(1)
        return self._group.all_reduce(rows)

    def scores(self, hidden: Tensor) -> Tensor:
        """(N, d) → (N, n): this rank's part of the logits"""
        assert self._head is not None, "the last stage has the head"
        return self._head(hidden)

    def likeliest(self, scores: Tensor) -> Tensor:
        """This rank's scores (N, n) → each row's likeliest token over all ranks, (N,); the lowest id wins a tie."""
        if self._group.world == 1:
            return kernels.likeliest(scores) if kernels.usable(scores) else scores.max(1).indices
        score, local = scores.float().max(1, keepdim=True)
        # an id is exact in fp32 up to 2 ** 24, far beyond any vocabulary
        ranks = self._group.all_gather(torch.cat([score, (local + self._start).float()], 1))  # (world, N, 2)
        winner = ranks[:, :, 0].max(0).indices
        return ranks[winner, torch.arange(len(winner), device=winner.device), 1].long()

    def logits(self, scores: Tensor) -> Tensor:
        """This rank's scores (N, n) → all logits (N, size) in fp32, on every rank"""
        mine = scores.float()
        if self._group.world == 1:
            return mine
        widest = -(-self.size // self._group.world)
        padded = F.pad(mine, (0, widest - mine.shape[1]), value=-torch.inf)
        parts = self._group.all_gather(padded)
        bounds = [self.size * rank // self._group.world for rank in range(self._group.world + 1)]
        return torch.cat([parts[r, :, : bounds[r + 1] - bounds[r]] for r in range(self._group.world)], 1)
