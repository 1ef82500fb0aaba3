"""One request on its way through the engine: its tokens, and how many of them the cache holds. No torch, no text.

Not a row of tensors: `slot` says which row of the caches is its own while it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from heavylift_runtime.engines.engine import Sampling
from heavylift_runtime.manner import Rules

if TYPE_CHECKING:  # which knows sequences
    from heavylift_runtime.native.sampling import Chosen


@dataclass(eq=False)
class Sequence:
    """What has been read and generated for one request."""

    key: int
    source: tuple[int, ...]
    """With an encoder, what it reads; else empty."""
    text: list[int]
    """The decoder's tokens: those given, and those generated."""
    given: int
    """How many of `text` were given: the prompt, or an encoder-decoder's start token."""
    sampling: Sampling
    plain: bool = True
    """Its next token is the likeliest one, with nothing to know besides."""
    seed: int = 0
    number: int = 0
    """Later arrivals have higher ones."""
    rules: Rules = field(default_factory=Rules)
    """The checkpoint's, for each of its tokens."""
    slot: int = -1
    cached: int = 0
    """How many of `text` the cache holds."""
    encoded: bool = False
    """The cache holds the source's keys and values, or there is none."""
    parts: int = 0
    """Until then: portions of the encoder's layers that the source has gone through."""
    guessed: list[int] = field(default_factory=list)
    """Tokens that the pass on its way reads after `text`, as if they had been generated."""
    copied: bool = False
    """The model guessed them, and not the text (drafts.py)."""
    foreseen: tuple[int, list[int]] = (0, [])
    """What the text would guess to follow, and what kind of guess that is (drafts.py)."""
    beams: list[Sequence] = field(default_factory=list)
    """Of a beam search that has spread: its rows, this one first."""
    origin: Sequence | None = None
    """Of a beam: the sequence that it is one of."""
    said: list[Chosen] = field(default_factory=list)
    """Of a beam: its tokens."""
    score: float = 0.0
    """Of a beam: the sum of its tokens' log-probabilities."""

    @property
    def leader(self) -> Sequence:
        """The sequence itself, or, of a beam, the one that the request is."""
        return self if self.origin is None else self.origin

    @property
    def generated(self) -> int:
        """Tokens generated so far."""
        return len(self.text) - self.given

    @property
    def pending(self) -> int:
        """Tokens that are to be read before the next one can be generated."""
        return len(self.text) - self.cached

    @property
    def width(self) -> int:
        """Rows that it takes while it runs."""
        return self.sampling.num_beams

    def forget(self) -> None:
        """Nothing of it is in the cache any more; what was generated stays, but a beam search begins anew."""
        self.slot, self.cached, self.encoded, self.parts = -1, 0, False, 0
        if self.beams:
            del self.text[self.given :]
            self.beams, self.said, self.score = [], [], 0.0
