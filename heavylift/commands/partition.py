"""`heavylift partition`: a checkpoint split ahead of time, in a process of its own.

Not the partitioning: torch's border is a process, so this one only becomes `python -m heavylift_runtime partition`.
"""

from __future__ import annotations

import argparse
import os
import sys


def partition(chosen: argparse.Namespace) -> int:
    """Replace this process by the partitioner; it answers for its own errors and exit code."""
    options = {
        "--out": chosen.out,
        "--tensor-parallel-degree": chosen.tensor_parallel_degree,
        "--pipeline-parallel-degree": chosen.pipeline_parallel_degree,
        "--dtype": chosen.dtype,
        "--quantize": chosen.quantize,
    }
    given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
    check = ["--check"] if chosen.check else []
    command = [sys.executable, "-m", "heavylift_runtime", "partition", *given, *check, "--", chosen.source]
    os.execv(command[0], command)
