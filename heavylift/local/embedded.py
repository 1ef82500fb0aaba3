"""EmbeddedAws: starts, finds and ends the embedded AWS, a daemon on one loopback port with a folder of its own.

Not the services: those are MiniStack and the plug-in, on an interpreter of their own. Only its logs outlive the daemon:
started again, it is empty.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from heavylift.errors import InputError, ToolError
from heavylift.local import process, toolchain
from heavylift.local.environment import REGION, aws_variables, environment
from heavylift.local.interpreter import local_python
from heavylift.local.locked import locked

ACCOUNT = "123456789012"
PORT = 4566
SERVE = ("{python}", "-m", "heavylift_runtime", "serve", "{model_dir}", "--port", "{port}")
"""How an endpoint's process is started; {python} is the runtime's interpreter."""

_FORMAT = "heavylift.embedded/1"
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Running:
    """The daemon that runs: its process, when that started, its port, and the word by which it is known."""

    pid: int
    started: str
    port: int
    token: str

    @property
    def url(self) -> str:
        """The address of every AWS service of the embedded AWS."""
        return f"http://localhost:{self.port}"


class EmbeddedAws:
    """The embedded AWS whose folder is `home`; `python` is MiniStack's interpreter, made in `home` when None."""

    def __init__(self, home: Path, python: Path | None = None) -> None:
        self.home = home.resolve()
        self.log = self.home / "embedded.log"
        self._python = python
        self._state = self.home / "embedded.json"

    def start(
        self, runtime_python: Path, runtime_root: Path, port: int | None = None, command: Sequence[str] = SERVE
    ) -> Running:
        """The running daemon, started where it does not run yet; `port` is PORT when None.

        Raises InputError when the port is in use by another program, or when the daemon runs on another port;
        ToolError when it does not come up.
        """
        with locked(self.home / "embedded.lock"):
            running = self.running()
            if running is not None:
                if port not in (None, running.port):
                    raise InputError(
                        f"the embedded AWS already runs on port {running.port}, not {port}; leave out --port, "
                        "or end it with `heavylift down` first"
                    )
                self._wait_healthy(running)  # whoever started it may have been killed meanwhile
                return running
            chosen = PORT if port is None else port
            _check_free(chosen)
            python = local_python(self.home) if self._python is None else self._python
            self.home.chmod(0o700)
            for folder in ("endpoints", "components", "tmp"):  # what a daemon that was killed left behind
                shutil.rmtree(self.home / folder, ignore_errors=True)
                (self.home / folder).mkdir(mode=0o700)
            values = {"{python}": str(runtime_python)}
            return self._launch(python, chosen, runtime_root, [values.get(part, part) for part in command])

    def stop(self) -> None:
        """End the daemon and every process below it, and wait; nothing where it does not run."""
        if not self.home.is_dir():
            return
        with locked(self.home / "embedded.lock"):
            running = self.running()
            if running is not None:
                process.end(running.pid, running.started, _STOP_SECONDS)
            self._state.unlink(missing_ok=True)

    def running(self) -> Running | None:
        """The daemon, if it runs: the very process that wrote the state, not another with its number."""
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            if state.pop("format") != _FORMAT:
                return None
            running = Running(**state)
        except (
            FileNotFoundError,
            ValueError,
            AttributeError,
            KeyError,
            TypeError,
        ):  # of another version, or half of one
            return None
        return running if process.started_at(running.pid) == running.started else None

    def environment(self, running: Running, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """`base` as a program needs it to reach the embedded AWS, and nothing real (heavylift.local.environment)."""
        return environment(running.port, base)

    def _launch(self, python: Path, port: int, runtime_root: Path, command: list[str]) -> Running:
        token = secrets.token_hex(16)
        settings = {
            "home": str(self.home),
            "port": port,
            "account": ACCOUNT,
            "region": REGION,
            "token": token,
            "command": command,
            "runtime_root": str(runtime_root.resolve()),
        }
        argv = [str(python), "-m", "plugin", json.dumps(settings)]
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        pid = os.posix_spawn(
            argv[0],
            argv,
            self._daemon_environment(port),
            setsid=True,  # Ctrl-C in the terminal is not for it
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                *((os.POSIX_SPAWN_CLOSE, each) for each in _inherited()),
            ],
        )
        started = process.started_at(pid)
        try:
            if started is None:
                raise self._broken("ended at once")
            running = Running(pid, started, port, token)
            self._write(running)
            self._wait_healthy(running)
        except BaseException:
            if started is not None:
                process.end(pid, started, _STOP_SECONDS)
            self._state.unlink(missing_ok=True)
            raise
        return running

    def _daemon_environment(self, port: int) -> dict[str, str]:
        """The daemon's whole environment, and so a Lambda's: nothing of the user's, above all no credentials of his."""
        return {
            "PATH": _path(self.home),
            "LANG": "C.UTF-8",
            "HOME": str(self.home / "tmp"),
            "TMPDIR": str(self.home / "tmp"),
            "PYTHONPATH": str(Path(__file__).parent),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "localhost",
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
            "LAMBDA_EXECUTOR": "local",
            "IOT_MTLS_ENABLED": "0",  # these two would listen on further ports
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": f"unix://{self.home}/no-docker.sock",  # no container of the user's is touched
            **aws_variables(port),
        }

    def _write(self, running: Running) -> None:
        new = self._state.with_suffix(".new")
        new.write_text(json.dumps({"format": _FORMAT, **asdict(running)}), encoding="utf-8")
        new.replace(self._state)

    def _wait_healthy(self, running: Running) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(running):
            if process.started_at(running.pid) != running.started:
                raise self._broken("ended before it answered")
            if time.monotonic() > deadline:
                raise self._broken(f"did not answer within {_START_SECONDS:g} s")
            time.sleep(0.02)

    def _broken(self, what: str) -> ToolError:
        tail = "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        return ToolError(f"the embedded AWS {what}; the end of its log '{self.log}':\n{tail}")


def _path(home: Path) -> str:
    """Where the daemon finds programs: the system's, and before them the Node of Lambdas that are written for it."""
    try:
        return f"{toolchain.node().parent}:{os.defpath}"
    except ToolError:
        return os.defpath  # none of ours needs it


def _answers(running: Running) -> bool:
    try:
        with _NO_PROXY.open(f"http://127.0.0.1:{running.port}/_heavylift/health", timeout=2) as reply:
            return bool(json.load(reply)["token"] == running.token)
    except (OSError, ValueError, KeyError):
        return False


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise InputError(
                f"the embedded AWS cannot listen on port {port}: {error}; end the program that uses it, "
                "or choose a free port with --port"
            ) from error


def _inherited() -> list[int]:
    """Descriptors that a library of this process has left open to its children: gloo's sockets are such."""
    found = []
    for each in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the listing's own has closed
            if each > 2 and os.get_inheritable(each):
                found.append(each)
    return found
