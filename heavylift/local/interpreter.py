"""The embedded AWS's own Python: a virtual environment with MiniStack and the botocore that it pins.

Not Heavylift's environment, whose boto3 is newer: the two cannot be one.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from heavylift.errors import ToolError
from heavylift.local.locked import locked

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_MARKER = "made-from.sha256"
"""Written last: an environment without it, or with another digest, is made anew."""


def local_python(home: Path) -> Path:
    """The interpreter in `home`/python with requirements.txt installed; made on the first call.

    Raises ToolError when the environment cannot be made.
    """
    folder = home / "python"
    program = folder / "bin" / "python"
    digest = hashlib.sha256(f"{sys.version}\n{REQUIREMENTS.read_text(encoding='utf-8')}".encode()).hexdigest()
    marker = folder / _MARKER
    with locked(home / "python.lock"):
        if not (program.exists() and marker.is_file() and marker.read_text(encoding="utf-8") == digest):
            print(f"making the embedded AWS's Python in '{folder}'", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(folder)])
            print("installing MiniStack", file=sys.stderr, flush=True)
            quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
            _run([str(program), "-m", "pip", "install", *quiet, "--requirement", str(REQUIREMENTS)])
            marker.write_text(digest, encoding="utf-8")
    return program


def _run(command: list[str]) -> None:
    """Run a command; ToolError with the end of what it printed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise ToolError(f"`{' '.join(command)}` failed with exit code {done.returncode}:\n{tail}")
