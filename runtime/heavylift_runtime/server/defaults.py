"""What requests leave to the model, out of its options and files. Not the options themselves."""

from __future__ import annotations

from pathlib import Path

from heavylift_runtime.options import Options
from heavylift_runtime.server.schemas import Defaults


def defaults_of(name: str, folder: Path, options: Options) -> Defaults:
    """The schemas' defaults of one model."""
    return Defaults(max_new_tokens=options.max_new_tokens, model=name)
