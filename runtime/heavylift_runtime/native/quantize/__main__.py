"""`python -m heavylift_runtime.native.quantize SOURCE --out DIR --method awq`: what `heavylift quantize` becomes.

Not the rounding (convert.py); faults are sentences on standard error, and exit codes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from heavylift_runtime.errors import RuntimeFault
from heavylift_runtime.families.packing import GROUPS
from heavylift_runtime.native.quantize.convert import SAID, convert
from heavylift_runtime.native.sources import source_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert one checkpoint; the exit code."""
    parser = argparse.ArgumentParser(prog="heavylift quantize", description="A checkpoint in AWQ's or GPTQ's layout.")
    parser.add_argument("source", help="a folder with a Hugging Face checkpoint, or s3://bucket/prefix/")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--method", choices=sorted(SAID), required=True, help="whose layout")
    parser.add_argument("--group-size", type=int, choices=GROUPS, default=128, help="inputs that share a scale")
    given = parser.parse_args(arguments)

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        convert(source_of(given.source, Path.cwd()), given.out, given.method, given.group_size, report)
    except RuntimeFault as fault:
        print(fault, file=sys.stderr, flush=True)
        return fault.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
