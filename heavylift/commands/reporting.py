"""`report`, `compare`: commands that read runs and write them in another form.

Not the measuring and the judging: traffic.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from heavylift.benchmark.samples import Recording
from heavylift.errors import InputError, SloMissed
from heavylift.report import export, page, picture, versus
from heavylift.report.compare import compare as compared
from heavylift.report.load import load_run, load_side

FORMS: Mapping[str, Callable[[Mapping[str, Any], Recording], bytes]] = {
    "html": lambda report, recording: page.render(report, recording).encode(errors="replace"),
    "png": picture.to_png,
    "json": lambda report, recording: json.dumps(report).encode() + b"\n",
    "csv": lambda report, recording: export.to_csv(recording).encode(),
    "junit": lambda report, recording: export.to_junit(report).encode(errors="replace"),
    "markdown": lambda report, recording: export.to_markdown(report).encode(errors="replace"),
}


def report(chosen: argparse.Namespace) -> int:
    """Write a run as a page, a picture, or for another program."""
    content = FORMS[chosen.format](*load_run(chosen.run))
    if chosen.output is not None:
        write(chosen.output, content)
    elif chosen.format == "png" and sys.stdout.isatty():
        raise InputError("a PNG is not for a terminal: add --output FILE, or redirect standard output")
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    return 0


def write(target: Path, content: bytes) -> None:
    """Write a file that the user named, whole or not at all. Raises InputError."""
    try:
        page.write_whole(target, content)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from None


def compare(chosen: argparse.Namespace) -> int:
    """Compare two sides; the exit code is that of a missed SLO where B is shown to be worse."""
    if not 0 <= chosen.tolerance <= 1000:
        raise InputError(f"--tolerance is {chosen.tolerance:g}; it must be 0 to 1000 percent")
    a, b = load_side(chosen.a), load_side(chosen.b)
    found = compared(a, b, tolerance=chosen.tolerance / 100, force=chosen.force)
    if chosen.html is not None:
        write(chosen.html, versus.render(found, a, b).encode(errors="replace"))
    print(json.dumps(found.to_dict()) if chosen.json else versus.plain(found))
    return SloMissed.exit_code if found.verdict == "worse" else 0
