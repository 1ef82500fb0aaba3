"""The two ends of a model whose vocabulary is split over the ranks: embedding of tokens, choice of the next one.

Not the model between them. A rank holds rows `[start, start + n)` of the embedding and the same rows of the head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.kernels import calls as kernels
from heavylift_runtime.native.linear import Linear, drafting
from heavylift_runtime.native.quantize.forms import Matrix
from heavylift_runtime.native.screened import ROWS, Screened, worth


class Vocabulary:
    """Embedding table and head; `head` None: the head is the embedding (tied), and held once."""

    def __init__(
        self,
        group: Group,
        size: int,
        table: Tensor | None,
        head: Matrix | None,
        bias: Tensor | None = None,
        *,
        held: int,
    ) -> None:
        """`table`, `head`, `bias`: this rank's rows (n, d) and scores (n,) of a vocabulary of `size`.

        Of a pipeline, the first stage has the table and the last one the head; those between have neither.
        `held`: bytes of all the weights of this rank, where it needs a head.
        """
        self._group, self.size, self._table = group, size, table
        self._start = size * group.rank // group.world
        self._head: Linear | None = None
        self._screened: Screened | None = None
        matrix = table if head is None else head
        if matrix is not None:
            self._head = Linear(matrix, bias, shared=head is None)
            if bias is None and isinstance(matrix, Tensor) and worth(matrix, held):
                self._screened = Screened(matrix)

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
        if not kernels.usable(scores):
            return self._of_ranks(*scores.max(1))
        local = kernels.likeliest(scores)
        if self._group.world == 1:
            return local
        return self._of_ranks(scores.gather(1, local.unsqueeze(1)).squeeze(1), local)

    def greedy(self, hidden: Tensor) -> Tensor:
        """(N, d) → the likeliest of `scores`, (N,), without most of their product where that is faster"""
        if self._screened is None or len(hidden) > ROWS[hidden.dtype]:
            return self.likeliest(self.scores(hidden))
        score, local, useful = self._screened(hidden)
        if not useful:
            self._screened = None
        return self._of_ranks(score, local)

    def guess(self, hidden: Tensor) -> Tensor:
        """(N, d) → most often `greedy`, (N,), by copies in 8 bits alone"""
        with drafting():
            return self.likeliest(self.scores(hidden) if self._screened is None else self._screened.about(hidden))

    def _of_ranks(self, score: Tensor, local: Tensor) -> Tensor:
        """The likeliest of each rank, (N,) and (N,) → the likeliest of all"""
        if self._group.world == 1:
            return local
        # an id is exact in fp32 up to 2 ** 24, far beyond any vocabulary
        ranks = self._group.all_gather(torch.stack([score.float(), (local + self._start).float()], 1))  # (world, N, 2)
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
