"""Ranks as processes that live for many tests: started once, they meet in worlds of any size, and run one task each.

Not threads (rank_threads.py): what they say to each other goes through gloo and shared memory, as in an endpoint.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch

from heavylift_runtime.native.mesh import Mesh

T = TypeVar("T")
PATIENCE = 540.0


class Pool:
    """At most `size` ranks; they end with `close`."""

    def __init__(self, size: int, folder: Path) -> None:
        """`folder`: for the files by which ranks find each other."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.rank_pool"])
        self._folder, self._met = folder, 0
        self._ends: list[Connection] = []
        self._processes = []
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)

    def run(self, tensor: int, pipeline: int, task: Callable[..., T], *arguments: Any) -> list[T]:
        """The results of `task(mesh, *arguments)` on every rank, in order; AssertionError with a rank's traceback."""
        world = tensor * pipeline
        self._met += 1
        rendezvous = f"file://{self._folder}/rendezvous-{self._met}"
        for rank, end in enumerate(self._ends[:world]):
            end.send((rank, tensor, pipeline, rendezvous, task, arguments))
        results = []
        for rank, end in enumerate(self._ends[:world]):
            assert end.poll(PATIENCE), f"rank {rank} of {world} says nothing"
            error, result = end.recv()
            assert error is None, f"rank {rank} of {world}: {error}"
            results.append(result)
        return results

    def close(self) -> None:
        """Ends all processes."""
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(5)
            process.kill()
            process.join()


def _serve(end: Connection) -> None:
    torch.set_num_threads(1)
    while True:
        try:
            rank, tensor, pipeline, rendezvous, task, arguments = end.recv()
        except EOFError:
            return
        mesh: Mesh | None = None
        answer: tuple[str | None, Any]
        try:
            mesh = Mesh.join(rank, tensor, pipeline, rendezvous)
            with torch.inference_mode():
                answer = None, task(mesh, *arguments)
            mesh.everyone.barrier()
        except Exception:  # the test process gets the words
            answer = traceback.format_exc(), None
        finally:
            if mesh is not None:
                mesh.close()
        end.send(answer)
