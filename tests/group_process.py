"""One rank of a group as a process of its own, for the tests: `group_process.py KIND RANK WORLD RENDEZVOUS`.

Exchanges tensors of many shapes and types, some too large for shared memory, and prints a digest of all that it got.
KIND is `gloo`, `memory`, or `full`: shared memory in a folder where there is no room.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import torch

from heavylift_runtime.native import shared_memory
from heavylift_runtime.native.distributed import Gloo, Group


def group_of(kind: str, rank: int, world: int, rendezvous: str) -> Group:
    if kind == "gloo":
        return Gloo(rank, world, rendezvous)
    if kind == "full":
        shared_memory.SLOT = 1 << 50  # bytes that no machine has
    return shared_memory.join(rank, world, rendezvous)


def main() -> None:
    kind, rank, world, rendezvous = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(1)
    group = group_of(kind, rank, world, rendezvous)
    before = [name for name in os.listdir(shared_memory.FOLDER) if name.startswith("heavylift-")]
    print(type(group).__name__, before, flush=True)
    generator = torch.Generator().manual_seed(rank)
    digest = hashlib.sha256()
    with torch.inference_mode():
        for turn in range(15):
            shape = [(3,), (4, 128), (1, 1), (700, 600), (2, 5, 7)][turn % 5]
            # whole numbers, whose sum is exact in every order
            tensor = torch.randint(-50, 50, shape, generator=generator).to(
                torch.bfloat16 if turn % 3 else torch.float32
            )
            gathered = group.all_gather(tensor)
            assert torch.equal(gathered[rank], tensor)
            assert torch.equal(group.all_gather(tensor, torch.empty_like(gathered)), gathered)
            total = group.all_reduce(tensor.clone())
            assert torch.equal(total.float(), gathered.float().sum(0))
            first = group.broadcast(tensor.clone())
            assert torch.equal(first, gathered[0])
            if rank == 0:  # a chain, as the stages of a pipeline are
                group.send(tensor, 1)
            elif rank + 1 < world:
                group.send(group.receive(torch.empty_like(tensor), rank - 1), rank + 1)
            else:
                assert torch.equal(group.receive(torch.empty_like(tensor), rank - 1), gathered[0])
            rows = torch.randn(4, 96, generator=generator)
            sums = group.all_reduce(rows.clone())
            alone = [group.all_reduce(row.clone()) for row in rows]
            assert torch.equal(sums, torch.stack(alone)), "a row's sum depends on its company"
            for result in (gathered, total, first, sums):
                digest.update(result.float().numpy().tobytes())
    print(digest.hexdigest(), flush=True)
    told = sys.stdin.readline().strip()
    if told == "wait":
        group.all_reduce(torch.ones(4))
        print("met", flush=True)
    if told == "last":
        place = Path(rendezvous.removeprefix("file://")).parent / f"rank-{rank}"  # held_back.c looks into one
        place.mkdir()
        (place / "begun").touch()
        group.broadcast(torch.ones(1))
        (place / "dropped").touch()
        cycle: list[object] = [group]  # as in an engine: what nobody uses any more is there until the end
        cycle.append(cycle)
    group.close()


if __name__ == "__main__":
    main()
