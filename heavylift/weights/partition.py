"""What a folder that was partitioned ahead of time says of itself: its degree and its numbers.

Not the proof of its files, which the runtime gives when it loads them. The format: docs/formats.md, partition.json.
"""

from __future__ import annotations

import json
from typing import Any

from heavylift.errors import InputError
from heavylift.plan.lock import Partitioned
from heavylift.weights.store import Store

MANIFEST, FORMAT = "partition.json", "heavylift.partition/1"
LARGEST = 16 << 20  # bytes, as the runtime reads


def read_partition(store: Store, sizes: dict[str, int]) -> Partitioned | None:
    """None for a plain checkpoint. Raises InputError for a manifest that is damaged or of another format."""
    if MANIFEST not in sizes:
        return None
    place = f"{store.title.rstrip('/')}/{MANIFEST}"
    try:
        if sizes[MANIFEST] > LARGEST:
            raise ValueError("too large")
        content: Any = json.loads(b"".join(store.read(MANIFEST)))
        if content["format"] != FORMAT:
            raise InputError(f"{place} has the format {content['format']!r}, not {FORMAT!r}; partition the model again")
        degree, dtype = content["tensor_parallel_degree"], content["dtype"]
        if type(degree) is not int or degree < 1 or not isinstance(dtype, str):
            raise ValueError("tensor_parallel_degree or dtype is damaged")
        return Partitioned(degree, dtype)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{place} cannot be read ({error}); partition the model again") from error
