"""Memory that all ranks of a machine see: a shelf for each rank to write on, and words to the others on what is there.

Not a group (distributed.py): nothing is summed, and nothing copied. The memory is memfd_create(2)'s, handed over by
sockets of the abstract namespace (unix(7)). Neither has a name in a file system: whoever is killed leaves nothing
behind, and the size of /dev/shm, 64 MB in a container that was not told otherwise, does not matter.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from contextlib import ExitStack, suppress

import torch
from torch import Tensor

from heavylift_runtime.native.distributed import Group

PATIENCE = 30.0
"""Seconds in which ranks that have met hand each other their memory."""
NAME = 16
"""Bytes of a socket's name, which the kernel chooses."""
WORD = struct.Struct("<cq")
"""What a word is about, and a number."""
PEER = struct.Struct("3i")
"""SO_PEERCRED: process, user, group."""


class Shelves:
    """One rank's view of all shelves. When a rank dies or leaves, whoever waits for its word is told so at once."""

    def __init__(self, every: list[Tensor], lines: dict[int, socket.socket], held: ExitStack) -> None:
        """`every`: each rank's shelf, as bytes; `lines`: to every other rank; `held`: closes them."""
        self.every, self._lines, self._held = every, lines, held

    @classmethod
    def join(cls, group: Group, size: int) -> Shelves | None:
        """So many bytes for each rank; None on all of them where one of them cannot. Called on all ranks at once."""
        with ExitStack() as held:
            own = _own(size, held)
            name = b"" if own is None else own[1].getsockname()
            names = group.all_gather(torch.tensor(list(name.ljust(NAME, b"\0")), dtype=torch.uint8))
            if own is None or not bool(names.any(1).all()):
                return None
            found = None
            with suppress(OSError):
                lines, files = _met(group.rank, [bytes(each.tolist()) for each in names], *own, held)
                found = [torch.frombuffer(mmap.mmap(files[rank], size), dtype=torch.uint8) for rank in sorted(files)]
            said = group.all_gather(torch.tensor([found is not None], dtype=torch.uint8))
            return cls(found, lines, held.pop_all()) if found is not None and bool(said.all()) else None

    def tell(self, about: bytes, number: int) -> None:
        """To all others, from any thread. Whoever has left needs no word; who waits for it will hear of it."""
        for line in self._lines.values():
            with suppress(OSError):
                line.send(WORD.pack(about, number))

    def hear(self, rank: int, *, wait: bool) -> tuple[bytes, int] | None:
        """The next word of a rank; None: there is none yet. RuntimeError where it is waited for and will never come."""
        for _ in range(2):
            try:
                word = self._lines[rank].recv(WORD.size, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except ConnectionResetError:  # it has left before it heard all; what it said is still to be had
                continue
            if word:
                about, number = WORD.unpack(word)
                return about, number
            break
        if wait:
            raise RuntimeError(f"rank {rank} is gone in the middle of the load; what it said last is why")
        return None

    def close(self) -> None:
        """Leaves; what lies on this rank's shelf stays until the others have left, too."""
        self._held.close()

    def __del__(self) -> None:
        self.close()


def _own(size: int, held: ExitStack) -> tuple[int, socket.socket] | None:
    """This rank's memory and the socket where others ask for it; None where there is no such memory, or no room."""
    try:
        memory = os.memfd_create("heavylift-shelf")
        held.callback(os.close, memory)
        os.posix_fallocate(memory, 0, size)  # want of memory is then said here, and no SIGBUS at a write
        door = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        door.bind("")  # the kernel finds a name
        door.listen()
    except (OSError, AttributeError):  # the second: no Linux
        return None
    return memory, door


def _met(
    rank: int, names: list[bytes], memory: int, door: socket.socket, held: ExitStack
) -> tuple[dict[int, socket.socket], dict[int, int]]:
    """A line to every other rank and its memory: each calls those before it and answers those behind it."""
    lines, files = dict[int, socket.socket](), {rank: memory}
    for other in range(rank):
        line = lines[other] = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        line.settimeout(PATIENCE)
        line.connect(names[other].rstrip(b"\0"))
        socket.send_fds(line, [WORD.pack(b"i", rank)], [memory])
    door.settimeout(PATIENCE)
    while len(lines) < len(names) - 1:
        line = held.enter_context(door.accept()[0])
        _, user, _ = PEER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
        if user != os.geteuid():  # any process of the machine can knock
            line.close()
            continue
        line.settimeout(PATIENCE)
        other, files[other] = _handed(line, held)
        socket.send_fds(line, [WORD.pack(b"i", rank)], [memory])
        lines[other] = line
    for other in range(rank):
        _, files[other] = _handed(lines[other], held)
    for line in lines.values():
        line.settimeout(None)
    return lines, files


def _handed(line: socket.socket, held: ExitStack) -> tuple[int, int]:
    """A rank's number and its memory."""
    word, files, _, _ = socket.recv_fds(line, WORD.size, 1)
    if not files:
        raise ConnectionError("the other rank has left")
    held.callback(os.close, files[0])
    return int(WORD.unpack(word)[1]), files[0]
