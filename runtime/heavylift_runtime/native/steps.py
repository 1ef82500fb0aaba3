"""Passes of one token for each row, in few sizes, with inputs that stay where they are: so a size is recorded once.

Not passes that read prompts: their sizes are as they come. A size has room for a power of two of rows, of places of
their texts and, with an encoder, of their sources; rows that nobody has are there, too, in slots that are free.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heavylift_runtime.families.stages import Stage
from heavylift_runtime.native.architectures import Model
from heavylift_runtime.native.batch import Batch
from heavylift_runtime.native.cache import Store
from heavylift_runtime.native.place import within
from heavylift_runtime.native.replay import Recorder, Work

LEAST = 256
"""Places of a text or a source in the smallest size."""


class Steps:
    """The sizes of one lane."""

    def __init__(self, model: Model, stores: Sequence[Store], slots: int, record: Recorder, stage: Stage) -> None:
        """Called on all ranks at once, while no slot is taken."""
        self._model, self._stores, self._record, self._stage = model, stores, record, stage
        device = model.device
        self._slots, self._furthest = slots, stores[0].room
        self._reach = stores[1].room if model.encodes else 0
        self._given = torch.zeros(3, slots, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._inputs = torch.zeros(3, slots, dtype=torch.int64, device=device)
        """Tokens, positions, and how much each has read."""
        self._hidden = torch.zeros(slots, model.width, dtype=model.stream, device=device)
        """What the stage before gave."""
        self._sizes: dict[tuple[int, int, int], Work] = {}
        self._given[2] = 1  # who reads nothing has no mean of it
        self._inputs.copy_(self._given)
        with within(device):
            # tables grow by being made anew: here they reach their end, for what is recorded keeps what it saw
            self._work(1, self._furthest, self._reach)()
        for store in stores:
            store.drop(0)

    def take(self, batch: Batch) -> bool:
        """Whether a pass is of this kind."""
        return not batch.chunks and not batch.apart and len(batch.at) == len(batch.tokens)

    def __call__(self, batch: Batch, x: Tensor | None = None) -> Tensor:
        """What `Model.forward` gives; valid until the next call."""
        count = len(batch.at)
        rows = _room(count, 1, self._slots)
        span = _room(max(batch.at) + 1, LEAST, self._furthest)
        source = _room(max(batch.read), LEAST, self._reach) if batch.read else 0
        self._given[:2, count:] = 0
        self._given[0, :count], self._given[1, :count] = batch.tokens, batch.positions
        if batch.read:
            self._given[2, :count] = torch.tensor(batch.read)
            self._given[2, count:] = 1
        self._inputs.copy_(self._given, non_blocking=True)
        if x is not None:
            self._hidden[:count].copy_(x)
        size = rows, span, source
        with within(self._model.device):
            if size not in self._sizes:
                self._sizes[size] = self._record(self._work(*size))
            return self._sizes[size]()[:count]

    def _work(self, rows: int, span: int, source: int) -> Work:
        """One size's pass; how far each row really is, only the inputs say."""
        tokens, positions, read = self._inputs[:, :rows].unbind(0)
        batch = Batch(
            tokens,
            positions,
            (span - 1,) * rows,
            read=(source,) * rows if source else (),
            looked=read if source else None,
        )
        x = None if self._stage.first else self._hidden[:rows]

        def work() -> Tensor:
            return self._model.forward(batch, self._stores, x)

        return work


def _room(count: int, least: int, most: int) -> int:
    """The next power of two from `least` on, or `most`."""
    return min(most, max(least, 1 << (count - 1).bit_length()))
