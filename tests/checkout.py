"""A checkout of its own for a test: the repository's programs, its own models/ and .heavylift/, its own port.

Not a clone: nothing is installed again, and no state of the user's checkout is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from heavylift.local import toolchain
from heavylift.local.plugin.port import free_port

ROOT = Path(__file__).resolve().parent.parent
SHARED = ("app.py", "cdk.json", "package.json", "package-lock.json", "node_modules")


@dataclass(frozen=True)
class Checkout:
    """A folder in which `heavylift` commands run."""

    root: Path
    port: int

    @classmethod
    def make(cls, folder: Path) -> Checkout:
        toolchain.cdk(ROOT)
        python = toolchain.local_python(ROOT / ".heavylift" / "local").parent.parent
        for name in SHARED:
            (folder / name).symlink_to(ROOT / name)
        shutil.copytree(ROOT / "models", folder / "models")
        (folder / ".heavylift" / "local").mkdir(parents=True, mode=0o700)
        (folder / ".heavylift" / "local" / "python").symlink_to(python)
        return cls(folder, free_port())

    def light(self) -> Path:
        """models/tiny-t5.yaml, made of one rank and 40 requests: for tests that deploy it again and again."""
        file = self.root / "models" / "tiny-t5.yaml"
        text = file.read_text()
        for whole, light in (("parallel_degree: 2\n", "parallel_degree: 1\n"), ("requests: 100\n", "requests: 40\n")):
            assert whole in text
            text = text.replace(whole, light)
        file.write_text(text)
        return file

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command at work, its two outputs in one pipe."""
        return subprocess.Popen(
            [sys.executable, "-m", "heavylift.cli", *arguments],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command that ended, with its exit code and outputs."""
        return subprocess.run(
            [sys.executable, "-m", "heavylift.cli", *arguments],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def client(self, service: str) -> Any:
        """boto3's, for the embedded AWS that this checkout has started."""
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, region_name="us-east-1", endpoint_url=f"http://localhost:{self.port}", **keys)

    def processes(self) -> list[str]:
        """The command lines of every process that works in or for this checkout, but for this test's own."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environment = (folder / "environ").read_bytes().decode(errors="replace")
            except OSError:  # it ended meanwhile
                continue
            if str(self.root) in line or str(self.root) in environment:
                found.append(line)
        return found
