"""Python's garbage collector in processes that serve for days: not over what stays, and not with every few requests.

Not a way to save memory: what is in no cycle goes without it, and of cycles some thousand values may wait.
"""

from __future__ import annotations

import gc

_YOUNG = (
    20_000  # values made and not yet gone before the youngest are looked at; Python's own 700 are one step's tokens
)


def settle() -> None:
    """What has been made until now, modules and a model, stays: a full collection, in the middle of a step or a reply,
    would look at hundreds of thousands of values and find them all in use."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
