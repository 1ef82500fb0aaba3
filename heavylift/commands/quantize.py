"""`heavylift quantize`: a checkpoint rounded to 4 bits, in AWQ's or GPTQ's layout, in a process of its own.

Not the rounding: torch's border is a process, so this one only becomes `python -m heavylift_runtime.native.quantize`.
"""

from __future__ import annotations

import argparse
import os
import sys


def quantize(chosen: argparse.Namespace) -> int:
    """Replace this process by the converter; it answers for its own errors and exit code."""
    options = {"--out": chosen.out, "--method": chosen.method, "--group-size": chosen.group_size}
    given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
    command = [sys.executable, "-m", "heavylift_runtime.native.quantize", *given, "--", chosen.source]
    os.execv(command[0], command)
