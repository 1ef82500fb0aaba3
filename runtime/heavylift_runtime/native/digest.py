"""SHA-256 of the files of a checkpoint, and of the checkpoint as a whole: the name under which it is pushed to S3.

Not a check: partitioned.py and checkpoint.py compare. The formula is docs/formats.md's, `weights.digest`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from heavylift_runtime.native.sources import Folder, Source, whole

PUSHED = "manifest.json"
"""The manifest that `heavylift weights push` writes."""
ENDINGS = (".json", ".model", ".txt")
"""Of the files that lie beside a model's weights: config and tokenizer."""


def digest_of(source: Source, name: str, size: int) -> str:
    """A file's SHA-256, read in blocks."""
    sha256, buffer = hashlib.sha256(), bytearray(8 * 1024 * 1024)
    for start in range(0, size, len(buffer)):
        view = memoryview(buffer)[: size - start]
        source.read_into(name, start, view)
        sha256.update(view)
    return sha256.hexdigest()


def source_digest(source: Source, sizes: Mapping[str, int]) -> str | None:
    """A checkpoint's digest, as the plan computes it; None for one in S3 without a manifest: not read twice."""
    if PUSHED in sizes:
        digest = json.loads(whole(source, PUSHED, sizes[PUSHED])).get("digest")
        return digest if isinstance(digest, str) else None
    if not isinstance(source, Folder):
        return None
    weights, other = ".safetensors", ".bin"
    if not any(name.endswith(weights) for name in sizes):
        weights, other = other, weights
    belonging = [
        name
        for name in sorted(sizes)
        if name.endswith((weights, *ENDINGS))
        and not name.endswith(f"{other}.index.json")
        and not name.startswith(".")
        and "/" not in name
    ]
    lines = (f"{digest_of(source, name, sizes[name])}  {sizes[name]}  {name}\n" for name in belonging)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
