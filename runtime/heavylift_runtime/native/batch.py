"""A batch of tokenized prompts, and how rank 0 hands it to the other ranks: two broadcasts of whole numbers, no pickle.

Not the decoding of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heavylift_runtime.native.distributed import Group


@dataclass(frozen=True)
class Batch:
    """`ids` (B, S) int64, padded at the right; `lengths` (B,) int64; the most new tokens of each row."""

    ids: Tensor
    lengths: Tensor
    limits: tuple[int, ...]

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], limits: Sequence[int], pad: int) -> Batch:
        """Pads prompts, each of at least one token, to the longest."""
        assert prompts and all(prompts) and len(prompts) == len(limits)
        longest = max(map(len, prompts))
        ids = torch.tensor([[*prompt, *[pad] * (longest - len(prompt))] for prompt in prompts])
        return cls(ids, torch.tensor([len(prompt) for prompt in prompts]), tuple(limits))

    def send(self, group: Group) -> None:
        """Called on rank 0; the others are in `receive`."""
        if group.world == 1:
            return
        group.broadcast(torch.tensor(self.ids.shape))
        group.broadcast(torch.cat([self.lengths.unsqueeze(1), torch.tensor(self.limits).unsqueeze(1), self.ids], 1))


def send_end(group: Group) -> None:
    """Called on rank 0: there are no more batches."""
    if group.world > 1:
        group.broadcast(torch.tensor([0, 0]))


def receive(group: Group) -> Batch | None:
    """Rank 0's next batch; None when there are no more. Waits as long as it takes, or until rank 0 is gone."""
    rows, positions = group.broadcast(torch.zeros(2, dtype=torch.int64)).tolist()
    if rows == 0:
        return None
    content = group.broadcast(torch.zeros(rows, positions + 2, dtype=torch.int64))
    return Batch(content[:, 2:].contiguous(), content[:, 0].contiguous(), tuple(content[:, 1].tolist()))
