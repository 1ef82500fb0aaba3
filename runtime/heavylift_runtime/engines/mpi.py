"""The environment of a script's rank, as mpirun and torchrun give it: who it is, and where the ranks meet. No MPI.

Rank 0 chooses a free port of the loopback and writes it beside the rendezvous, where the others wait for it.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from heavylift_runtime.errors import LoadError

_LOOK_S = 0.02


def join(rank: int, world: int, rendezvous: str, seconds: float) -> None:
    """Sets RANK, WORLD_SIZE, MASTER_ADDR and their like in this process; LoadError where rank 0 does not come."""
    file = Path(f"{rendezvous.removeprefix('file://')}.port")
    port = _choose(file) if rank == 0 else _wait(file, seconds)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    mpi = {"RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0, "SIZE": world, "LOCAL_SIZE": world}
    names["LOCAL_SIZE"] = world  # its launcher's; without it DeepSpeed's operator for processors ends in a SIGSEGV
    names |= {f"OMPI_COMM_WORLD_{name}": value for name, value in mpi.items()}
    os.environ.update({name: str(value) for name, value in names.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    os.environ["HEAVYLIFT_RENDEZVOUS"] = rendezvous  # where ranks of a model that the script starts meet


def _choose(file: Path) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    partial = file.with_suffix(".partial")
    partial.write_text(str(port))
    partial.rename(file)
    return port


def _wait(file: Path, seconds: float) -> int:
    until = time.monotonic() + seconds
    while not file.exists():
        if time.monotonic() > until:
            raise LoadError(f"rank 0 of the script did not say within {seconds:g} s where the ranks meet")
        time.sleep(_LOOK_S)
    return int(file.read_text())
