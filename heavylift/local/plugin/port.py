"""A port for a server that is about to start: for the plug-in, the tests and the benchmarks. Standard library only."""

from __future__ import annotations

import contextlib
import random
import socket

PORTS = range(15_000, 32_000)
"""Below those that the system gives to connections: a server binds its port seconds later, when a connection of
anybody's could have one of those."""


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
