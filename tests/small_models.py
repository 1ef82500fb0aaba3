"""Random models of a few thousand weights, each written and loaded once, and prompts with what they get by themselves.

Not a fixture: a test's module makes one, and decides how long it is kept.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path

from tests.decoder_checkpoints import KINDS, write_decoder
from tests.native_cores import Answer, answers_of, core_of, model_on
from tests.t5_checkpoints import write_t5

LIMITS = [24, 2, 17, 7, 30, 11]
PROMPTS = [[5, 9, 33, 21, 7, 2], [12], [40, 41, 8, 3, 55, 9, 9, 9, 30, 28, 27, 4, 6, 18, 19, 20, 22, 23, 11], [3, 2],
           [7] * 41, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]]  # fmt: skip


class SmallModels:
    """By kind: "t5", or one of decoder_checkpoints' KINDS."""

    def __init__(self, place: Path) -> None:
        """`place`: an empty folder."""

        writing = threading.Lock()  # ranks that are threads ask at once: one writes, the others wait for it

        @cache
        def write(kind: str) -> Path:
            if kind == "t5":
                return write_t5(place / kind)
            family, config = KINDS[kind]
            return write_decoder(place / kind, family, **config)

        def alone(kind: str) -> list[Answer]:
            core = core_of(self.model(kind))
            return [answers_of(core, [prompt], [limit])[0] for prompt, limit in zip(PROMPTS, LIMITS, strict=True)]

        def folder(kind: str) -> Path:
            with writing:
                return write(kind)

        self.folder = folder
        """A checkpoint."""
        self.model = cache(lambda kind: model_on(self.folder(kind)))
        """On one rank, in fp32."""
        self.alone = cache(alone)
        """What each of PROMPTS gets by itself, in passes as they come."""
