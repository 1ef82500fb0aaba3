"""All ranks of a model saw the same files, or none of them loads: else its parts would come from two models.

Each rank looks for itself, at its own time, and a prefix or a branch may be pushed to in between. What changes after
that look is the source's to notice: S3 by the ETag, the hub by the commit, a partition by its header's digest.
"""

from __future__ import annotations

import hashlib

import torch

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.distributed import Group


def prove_alike(group: Group, checkpoint: Checkpoint) -> None:
    """Called on all ranks of the model; LoadError on each of them where two saw different files."""
    if group.world == 1:
        return
    digest = hashlib.sha256(_seen(checkpoint).encode()).digest()
    every = group.all_gather(torch.tensor(list(digest), dtype=torch.uint8))
    if not bool((every == every[0]).all()):
        raise LoadError(
            f"{checkpoint.source.place}: its files changed while the ranks looked at them, and not all saw the same; "
            "start again, and name what does not change (another prefix for each version; owner/name@commit)"
        )


def _seen(checkpoint: Checkpoint) -> str:
    """All that a rank knows of the weights: config, what lies where, and the versions of the files.

    Of a partition its manifest stands for the second: a rank opens its own file only.
    """
    partition, tensors = checkpoint.partition, sorted(checkpoint.tensors.values(), key=lambda each: each.name)
    files = sorted({each.file for each in tensors} if partition is None else partition.files)
    versions = [(name, checkpoint.source.version(name)) for name in files]
    return repr((checkpoint.config, tensors if partition is None else partition, versions))
