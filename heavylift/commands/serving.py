"""`heavylift serve`: the container's server on a folder, as a process of its own.

Not the server: torch's border is a process, so this one only becomes `python -m heavylift_runtime serve`.
"""

from __future__ import annotations

import argparse
import os
import sys


def serve(chosen: argparse.Namespace) -> int:
    """Replace this process by the server; it answers for its own errors and exit code."""
    port = [] if chosen.port is None else ["--port", str(chosen.port)]
    command = [sys.executable, "-m", "heavylift_runtime", "serve", str(chosen.folder), *port]
    os.execv(command[0], command)
