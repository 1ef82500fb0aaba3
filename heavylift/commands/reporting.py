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
from heavylift.errors import InputError
from heavylift.report import export, page, picture
from heavylift.report.load import load_run

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
