"""The forward pass that all decoder-only families share: rows of one token and portions of prompts, in one flat pass.

Not a family: llama.py and its neighbours build the blocks. N tokens of all rows together, d the model's width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from heavylift_runtime.families.decoder import DecoderFamily, Shape
from heavylift_runtime.native.architectures.attention import Heads, Pass
from heavylift_runtime.native.architectures.blocks import Block
from heavylift_runtime.native.architectures.repeated import Repeated
from heavylift_runtime.native.batch import Batch, Source
from heavylift_runtime.native.cache import Store
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.vocabulary import Vocabulary

Enter = Callable[[Tensor, Tensor], Tensor]
"""Embeddings (N, e) and positions (N,) → (N, d)."""
Leave = Callable[[Tensor], Tensor]
"""(N, d) → what the head gets, (N, e)."""


def plainly(embedded: Tensor, positions: Tensor) -> Tensor:
    """Embeddings as they are."""
    return embedded


def assemble(
    family: type[DecoderFamily[Any]],
    shape: Shape,
    weights: Weights,
    group: Group,
    heads: Heads,
    block: Callable[[int], Block],
    back: Callable[[], Leave],
    *,
    front: Callable[[], Enter] = lambda: plainly,
    bias: str | None = None,
) -> Decoder:
    """A stage of a model, from its weights in the order of the family's table, so that the loader can read ahead.

    `block` takes those of one layer, by its number, `front` and `back` those before and after the layers; `bias` is the
    name of the head's.
    """
    stage, table, enter, leave, head = weights.stage, None, None, None, None
    if stage.first or (stage.last and shape.tied):
        table = weights.take(family.embedding)
    if stage.first:
        enter = front()
    blocks = [block(number) for number in stage.layers(shape.layers)]
    if stage.last:
        leave = back()
        head = None if shape.tied else weights.matrix(family.head)
    beside = weights.take(bias) if bias is not None and stage.last else None
    held = weights.total if stage.last else 0
    vocabulary = Vocabulary(group, shape.vocabulary, table, head, beside, held=held)
    room = stage.most(shape.layers)
    return Decoder(shape, vocabulary, heads, blocks, enter, leave, weights.dtype, weights.device, room)


class Decoder:
    """One rank's part of a stage of a decoder-only model."""

    encodes = False
    depth = 0

    def __init__(
        self,
        shape: Shape,
        vocabulary: Vocabulary,
        heads: Heads,
        blocks: Sequence[Block],
        enter: Enter | None,
        leave: Leave | None,
        dtype: torch.dtype,
        device: torch.device,
        room: int,
    ) -> None:
        """`enter` and `leave`: on the first and the last stage; `room`: layers of the fullest stage."""
        self.vocabulary, self.heads, self.dtype, self.device = vocabulary, heads, dtype, device
        self.width, self.positions, self.stream = shape.width, shape.positions, dtype
        self._blocks, self._enter, self._leave, self._room = blocks, enter, leave, room
        self._repeated = Repeated(self._through)

    def stores(self, slots: int, source: int, text: int) -> tuple[Store]:
        """Its cache: of texts of at most so many tokens; there are no sources. As large on every stage."""
        heads = self.heads
        return (Store(self._room, slots, heads.pairs, text, heads.width, self.dtype, self.device),)

    def encode(self, sources: Sequence[Source], x: Tensor | None = None, part: int = 0, parts: int = 1) -> Tensor:
        raise AssertionError("a decoder-only model has no encoder")

    def remember(self, sources: Sequence[Source], hidden: Tensor, stores: Sequence[Store]) -> None:
        raise AssertionError("a decoder-only model has no sources")

    def forward(self, batch: Batch, stores: Sequence[Store], x: Tensor | None = None) -> Tensor:
        """One pass through the stage, of what the one before gave, (N, d), or, on the first, of tokens.

        (N, d) for the next stage, or on the last what the head gets for the tokens that are wanted, (M, e).
        """
        text = Pass(self.heads, stores[0], batch)
        if x is None:
            assert self._enter is not None
            x = self._enter(self.vocabulary.embed(batch.tokens), batch.positions)
        return self._repeated(x, text)

    def _through(self, x: Tensor, text: Pass) -> Tensor:
        for layer, block in enumerate(self._blocks):
            x = block(x, layer, text)
        if self._leave is None:
            return x
        x = text.pick(x)
        return self._leave(x) if len(x) else x
