"""The forward pass of each model family, one file per family.

Not its table of weights: that is families/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from heavylift_runtime.families import family_of
from heavylift_runtime.families.bloom import Bloom
from heavylift_runtime.families.decoder import DecoderFamily
from heavylift_runtime.families.gpt2 import GPT2
from heavylift_runtime.families.gpt_neox import GPTNeoX
from heavylift_runtime.families.gptj import GPTJ
from heavylift_runtime.families.llama import Llama
from heavylift_runtime.families.mixtral import Mixtral
from heavylift_runtime.families.opt import OPT
from heavylift_runtime.families.t5 import Shape as T5Shape
from heavylift_runtime.native.architectures import bloom, gpt2, gpt_neox, gptj, llama, mixtral, opt
from heavylift_runtime.native.architectures.t5 import T5Model
from heavylift_runtime.native.batch import Batch, Source
from heavylift_runtime.native.cache import Store
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.vocabulary import Vocabulary


class Model(Protocol):
    """One rank's part of a stage of a model, with or without an encoder."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Its two ends."""

    @property
    def positions(self) -> int | None:
        """The most tokens of prompt and answer together; None: the model sets no limit."""

    @property
    def encodes(self) -> bool:
        """It reads prompts with an encoder, and its decoder answers them; else the decoder continues them."""

    def stores(self, slots: int, source: int, text: int) -> Sequence[Store]:
        """Its empty caches, for texts, and sources, of at most so many tokens in each slot."""

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""

    @property
    def device(self) -> torch.device:
        """Where."""

    @property
    def width(self) -> int:
        """Of what a stage gives the next one, d."""

    @property
    def stream(self) -> torch.dtype:
        """Its type."""

    @property
    def depth(self) -> int:
        """Layers of its encoder on this stage."""

    def encode(self, sources: Sequence[Source], x: Tensor | None = None, part: int = 0, parts: int = 1) -> Tensor:
        """Whole sources through the stage, or the `part`-th of `parts` portions of its layers → (N, d)

        Of what came before, or, at the beginning of the first stage, of tokens.
        """

    def remember(self, sources: Sequence[Source], hidden: Tensor, stores: Sequence[Store]) -> None:
        """Keeps what its layers look at, of what the last stage's `encode` gave."""

    def forward(self, batch: Batch, stores: Sequence[Store], x: Tensor | None = None) -> Tensor:
        """One pass through the stage, of what the one before gave, or, on the first, of tokens.

        (N, d) for the next stage, or on the last what the head gets for the tokens that are wanted, (M, e).
        """


DECODERS: Mapping[type[DecoderFamily[Any]], Callable[[Any, Weights, Group], Model]] = {
    Llama: llama.build,
    Mixtral: mixtral.build,
    GPT2: gpt2.build,
    GPTJ: gptj.build,
    GPTNeoX: gpt_neox.build,
    OPT: opt.build,
    Bloom: bloom.build,
}
"""Each family's builder takes the family's own Shape."""


def model_of(config: Mapping[str, Any], weights: Weights, group: Group) -> Model:
    """Builds the forward pass of config.json's family through the weights' stage; `group`: the ranks that share it."""
    family = family_of(config)
    if isinstance(family, DecoderFamily):
        return DECODERS[type(family)](family.shape(config), weights, group)
    return T5Model(T5Shape.of(config), weights, group)
