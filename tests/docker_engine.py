"""A Docker Engine for tests, in a mount and a network namespace of its own: nothing of it shows on the machine.

Not a client library: Debian's `docker` (package docker.io) is called. No registry is asked: the base image is a small
Debian made by mmdebstrap, which stands in for python:3.11-slim-bookworm, Debian 12 with Python 3.11 as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

NEEDED = {
    "/usr/bin/docker": "docker.io",
    "/usr/sbin/dockerd": "docker.io",
    "/usr/bin/mmdebstrap": "mmdebstrap",
    "/usr/bin/unshare": "util-linux",
    "/usr/bin/nsenter": "util-linux",
    "/usr/bin/curl": "curl",
    "/usr/sbin/ip": "iproute2",
}
BASE = "heavylift-test-base:3.11"
ROOM = 6 * 2**30
"""Bytes free in memory from which the engine's files go there: a third of the time that a disk takes."""
RECIPE = (
    "--variant=apt",
    "--include=ca-certificates,python3,python3-pip,python3-venv",
    '--aptopt=APT::Install-Recommends "false"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=force-unsafe-io",
    '--customize-hook=rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
    '--customize-hook=ln -s ../../bin/python3 "$1"/usr/local/bin/python; ln -s ../../bin/pip3 "$1"/usr/local/bin/pip',
    "bookworm",
)


def why_not() -> str | None:
    """Why no engine can be started here, or None."""
    if os.geteuid() != 0:
        return "building the image needs root, to start a Docker Engine of its own"
    missing = sorted({package for file, package in NEEDED.items() if not Path(file).exists()})
    return f"building the image needs Debian's {', '.join(missing)}: apt install them" if missing else None


@dataclass(frozen=True)
class Engine:
    """A running one. `folder` goes with it."""

    folder: Path
    pid: int

    def docker(self, *arguments: str, timeout: float = 300) -> str:
        """What a docker command printed; AssertionError with its last words where it failed."""
        environ = {
            "PATH": os.environ["PATH"],
            "DOCKER_HOST": f"unix://{self.folder}/docker.sock",
            "DOCKER_CONFIG": str(self.folder / "config"),
            "DOCKER_BUILDKIT": "1",
        }
        done = subprocess.run(
            ["/usr/bin/docker", *arguments], env=environ, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"docker {arguments[0]}: {done.stderr[-2000:]}"
        return (done.stdout + done.stderr if arguments[0] == "logs" else done.stdout).strip()

    def logs(self, container: str) -> str:
        """What a container printed, on both of its streams."""
        return self.docker("logs", container)

    def import_base(self) -> None:
        """BASE: made once, kept in the user's cache under the name of its recipe."""
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "heavylift"
        tar = cache / f"base-{hashlib.sha256(json.dumps(RECIPE).encode()).hexdigest()[:12]}.tar"
        if not tar.exists():
            cache.mkdir(parents=True, exist_ok=True)
            made = self.folder / "base.tar"
            environ = {**os.environ, "TMPDIR": str(self.folder)}
            done = subprocess.run(
                ["/usr/bin/mmdebstrap", "--quiet", *RECIPE, str(made)], env=environ, capture_output=True, check=False
            )
            assert done.returncode == 0, done.stderr.decode()[-2000:]
            shutil.move(made, tar.with_suffix(".part"))
            tar.with_suffix(".part").rename(tar)
        self.docker("import", "--change", "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    str(tar), BASE)  # fmt: skip

    def http(self, *arguments: str) -> tuple[int, str]:
        """Status and body of a request to a published port, by curl within the engine's network; 0: no answer."""
        asking = [*self._curl, "--write-out", "\n%{http_code}", *arguments]
        done = subprocess.run(asking, capture_output=True, check=False)
        body, _, status = done.stdout.decode().rpartition("\n")
        return int(status), body

    def stream(self, *arguments: str) -> subprocess.Popen[str]:
        """The same under way: a reply's body as it comes, and curl's exit code, 0 where it was whole."""
        return subprocess.Popen([*self._curl, "--no-buffer", *arguments], stdout=subprocess.PIPE, text=True)

    @property
    def _curl(self) -> list[str]:
        inside = ["/usr/bin/nsenter", f"--net=/proc/{self.pid}/ns/net"]
        return [*inside, "/usr/bin/curl", "--silent", "--max-time", "60"]


@contextmanager
def engine() -> Iterator[Engine]:
    """Starts one; everything that it wrote is gone at the end."""
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() and shutil.disk_usage(memory).free > ROOM else Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix="heavylift-docker-", dir=parent, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        options = {
            "--data-root": folder / "data",
            "--exec-root": folder / "exec",
            "--pidfile": folder / "pid",
            "--host": f"unix://{folder}/docker.sock",
            "--bip": "172.31.250.1/24",
            "--storage-driver": "overlay2",
        }
        flags = ["--iptables=false", "--ip6tables=false", *(f"{name}={value}" for name, value in options.items())]
        script = 'ip link set lo up; exec dockerd "$@"'
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["/usr/bin/unshare", "--mount", "--net", "sh", "-c", script, "dockerd", *flags],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        started = Engine(folder, process.pid)
        try:
            _wait(started, process)
            yield started
            for container in started.docker("ps", "--all", "--quiet").split():
                started.docker("rm", "--force", container)
        finally:
            _end(process)


def _wait(started: Engine, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(AssertionError):
            started.docker("info")
            return
        time.sleep(0.1)
    raise AssertionError(f"dockerd did not start: {(started.folder / 'log').read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
