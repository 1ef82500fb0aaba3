"""What attention remembers: keys and values of each running row, in one reservation of virtual memory.

Not the attention over them, and not the decision who may run (scheduler.py). A row's places follow one another, so that
attention is a plain product of strided tensors, with no gather; the pages are the operating system's: the first write
to one takes memory, and a row that ends gives its pages back (the idea of vAttention, Prabhu et al. 2024, whose
driver calls on a GPU are page faults and madvise(2) on a processor). On a GPU, where nothing faults in, the same
tensor is an ordinary one, and a row's places are taken at once; that was written, not run.
"""

from __future__ import annotations

import mmap
from math import gcd, prod

import torch
from torch import Tensor

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.kernels import calls as kernels

PAGE = mmap.PAGESIZE
NORESERVE = 0x4000
"""Linux's MAP_NORESERVE (mman.h): virtual memory beyond what the machine has is no fault until it is written to."""


class Places:
    """Where one token of each row goes."""

    def __init__(self, store: Store, first: int, positions: Tensor, turns: int) -> None:
        self._store, self.first, self.positions, self._turns = store, first, positions, turns
        self.each = len(positions) // turns
        self._rows: Tensor | None = None

    @property
    def rows(self) -> Tensor:
        """Of a layer's keys and values as rows of D numbers: (B, 2 P)"""
        if self._rows is None:
            slots = self._store.firsts[self.first : self.first + self.each].repeat(self._turns) + self.positions
            self._rows = slots.unsqueeze(1) + self._store.heads
        return self._rows


class Store:
    """Keys and values, (layers, 2, slots, P, T, D), of at most T tokens in each slot, by P heads of width D."""

    def __init__(
        self,
        layers: int,
        slots: int,
        pairs: int,
        longest: int,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """`longest`: tokens that a slot must have room for; T is a little more. LoadError where it cannot be had."""
        self.slots, self.pairs, self.width = slots, pairs, width
        self._each = width * dtype.itemsize
        # a head's places end at the end of a page, and there is an odd number of such units: heads that are a power of
        # two apart would fall into the same lines of the processor's caches
        unit = PAGE // gcd(PAGE, self._each)
        self.room = (-(-longest // unit) | 1) * unit
        self._planes = 2 * layers * pairs
        shape = (layers, 2, slots, pairs, self.room, width)
        self._memory: mmap.mmap | None = None
        if device.type == "cpu":
            size = prod(shape) * dtype.itemsize
            try:
                self._memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
            except (OSError, ValueError) as error:
                raise LoadError(
                    f"cannot reserve {size} bytes of address space for the cache of {slots} sequences of {longest} "
                    f"tokens: {error}; lower the batch size"
                ) from error
            self.content = torch.frombuffer(self._memory, dtype=dtype).view(shape)
        else:
            try:
                self.content = torch.zeros(shape, dtype=dtype, device=device)
            except torch.OutOfMemoryError as error:
                raise LoadError(
                    f"{device} has no room for the {prod(shape) * dtype.itemsize} bytes that the cache of {slots} "
                    f"sequences of {longest} tokens takes at once; lower 'max_model_len' or the batch size"
                ) from error
        # a token's key and value of a head are rows of this: (2 * slots * P * T, D) for each layer
        self._flat = list(self.content.view(layers, -1, width).unbind(0))
        heads = torch.arange(2, device=device).unsqueeze(1) * (slots * pairs) + torch.arange(pairs, device=device)
        self.heads = heads.flatten() * self.room
        """Rows between a slot's first and each head's of its, (2 P,)"""
        self.firsts = torch.arange(slots, device=device) * (pairs * self.room)
        """Each slot's first row, (slots,)"""
        self._views: dict[tuple[int, int, int], tuple[list[Tensor], list[Tensor]]] = {}

    @property
    def grows(self) -> bool:
        """Memory is taken by the page as it is written."""
        return self._memory is not None

    def taken(self, count: int) -> int:
        """Bytes that a row of so many tokens takes, in whole pages."""
        return self._planes * -(-count * self._each // PAGE) * PAGE

    def places(self, first: int, positions: Tensor, turns: int = 1) -> Places:
        """Where tokens at `positions` (B,) go, for `put`: B / `turns` of the slots from `first` on, turn by turn."""
        return Places(self, first, positions, turns)

    def put(self, layer: int, places: Places, pairs: Tensor) -> None:
        """One token of each row: keys, then values, (B, 2 P, D)"""
        if kernels.usable(pairs):
            return kernels.put(pairs, places.positions, self.content[layer], places.first, places.each)
        self._flat[layer].index_put_((places.rows,), pairs)

    def write(self, layer: int, slot: int, first: int, pairs: Tensor) -> None:
        """Tokens [first, first + n) of one row: keys, then values, (n, 2, P, D)"""
        self.content[layer, :, slot, :, first : first + len(pairs)].copy_(pairs.permute(1, 2, 0, 3))

    def read(self, layer: int, slot: int, count: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one row's first tokens, each (P, count, D)"""
        keys, values = self.content[layer, :, slot, :, :count].unbind(0)
        return keys, values

    def views(self, first: int, rows: int, span: int) -> tuple[list[Tensor], list[Tensor]]:
        """For each layer, keys (rows * P, D, span) and values (rows * P, span, D) of the slots from `first` on."""
        key = first, rows, span
        if key not in self._views:
            if len(self._views) > 64:
                self._views.clear()
            part = self.content[:, :, first : first + rows].flatten(2, 3)[:, :, :, :span]
            self._views[key] = list(part[:, 0].transpose(2, 3).unbind(0)), list(part[:, 1].unbind(0))
        return self._views[key]

    def copy(self, sources: list[int], targets: list[int], count: int) -> None:
        """The first tokens of slots, all at once, into others."""
        part = self.content[:, :, :, :, :count]
        if len(sources) == 1:
            part[:, :, targets[0]].copy_(part[:, :, sources[0]])
        else:
            at = torch.tensor([sources, targets], device=part.device)
            part.index_copy_(2, at[1], part.index_select(2, at[0]))

    def drop(self, slot: int) -> None:
        """Forgets a row: its places are zeros again, and their memory is free."""
        if self._memory is None:
            self.content[:, :, slot].zero_()
            return
        size = self.content[0, 0, 0].nbytes
        for plane in range(self.content.shape[0] * 2):
            self._memory.madvise(mmap.MADV_DONTNEED, (plane * self.slots + slot) * size, size)
