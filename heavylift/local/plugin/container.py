"""A container: one model process, its folders, its log and its port, under a keeper.

Not the endpoint, which outlives its containers: that is endpoints.py.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import keeper
from .errors import EndpointFailed
from .port import free_port
from .settings import Settings

if TYPE_CHECKING:
    from .multi_model import Models

PING_SECONDS = 2.0
"""A container must answer /ping within 2 s (SageMaker developer guide, "How Containers Serve Requests")."""
TELL_SECONDS = 600.0
"""A model or an adapter that is not loaded by then is given up; who asked was told long before to try again."""


class Container:
    """One generation of an endpoint: `folder` holds its model, home and tmp, and goes with it; `log` stays."""

    def __init__(self, settings: Settings, name: str, *, under: str = "endpoints") -> None:
        home = settings.home / under / name
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        generation = 1 + max((int(log.stem) for log in home.glob("*.log") if log.stem.isdecimal()), default=0)
        self.log = home / f"{generation:04d}.log"
        self.log.touch(mode=0o600)
        self.folder = home / f"{generation:04d}"
        for part in ("model", "home", "tmp"):
            (self.folder / part).mkdir(mode=0o700, parents=True)
        self.model = self.folder / "model"
        self.port = free_port()
        self._settings = settings
        self._keeper: subprocess.Popen[bytes] | None = None
        self.models: Models | None = None
        """Of a multi-model container."""

    def start(self, environment: dict[str, str], command: Sequence[str] | None = None) -> None:
        """Start the model server, or a job's `command`, with `environment` and what SageMaker and the image add."""
        values = {"{model_dir}": str(self.model), "{port}": str(self.port)}
        command = [values.get(argument, argument) for argument in command or self._settings.command]
        with open(self.log, "ab") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, *command],
                cwd=self.folder,
                env=self._environment(environment),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _environment(self, given: dict[str, str]) -> dict[str, str]:
        """The process's whole environment: the image's, then the Model's, then SageMaker's. Nothing of the user's."""
        image = {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONPATH": str(self._settings.runtime_root),
            "PYTHONUNBUFFERED": "1",
            "HEAVYLIFT_ENVIRONMENTS": str(self._settings.runtime_root.parent),  # .venv-vllm and its like
            "HEAVYLIFT_OPT_ML": str(self.folder),  # stands for /opt/ml
        }
        sagemaker = {
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
            "AWS_REGION": self._settings.region,
            "AWS_DEFAULT_REGION": self._settings.region,
            "AWS_ENDPOINT_URL": self._settings.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            **({} if self.models is None else {"SAGEMAKER_MULTI_MODEL": "true"}),
        }
        return {**image, **given, **sagemaker}

    def wait_healthy(self, seconds: float, cancelled: Callable[[], bool]) -> None:
        """Return when /ping answers 200; EndpointFailed when the process ends first or `seconds` pass."""
        assert self._keeper is not None
        deadline = time.monotonic() + seconds
        while not self._ping():
            if self._keeper.poll() is not None:
                raise EndpointFailed(self.reason(f"the container exited with code {self._keeper.returncode}"))
            if time.monotonic() > deadline:
                raise EndpointFailed(self.reason(f"/ping did not answer 200 within {seconds:g} s"))
            if cancelled():
                raise EndpointFailed("the embedded AWS is ending")
            time.sleep(0.05)

    def alive(self) -> bool:
        """Whether the model process runs."""
        return self._keeper is not None and self._keeper.poll() is None

    def wait_exit(self, seconds: float) -> int:
        """The process's exit code; EndpointFailed when it runs for more than `seconds`."""
        assert self._keeper is not None
        try:
            return self._keeper.wait(seconds)
        except subprocess.TimeoutExpired:
            raise EndpointFailed(self.reason(f"the container ran for more than {seconds:g} s")) from None

    def wait_ended(self) -> None:
        """Block until the process has ended, for whatever reason."""
        assert self._keeper is not None
        self._keeper.wait()

    def stop(self) -> None:
        """End the process and all its children, and remove its folders; the log stays. Safe to call twice."""
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()
            self._keeper.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ping(self) -> bool:
        return self.ask("GET", "/ping", seconds=PING_SECONDS)[0] == 200

    def ask(
        self, method: str, path: str, body: dict[str, str] | None = None, *, seconds: float = TELL_SECONDS
    ) -> tuple[int, str]:
        """Status and text of a reply; status 0 where there is none within `seconds`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)
        finally:
            connection.close()

    def reason(self, what: str) -> str:
        """`what`, the log's path and its last lines, within FailureReason's 1024 characters."""
        head = f"{what}; log '{self.log}', its end: "
        return head + (_tail(self.log, 1024 - len(head)) or "(empty)")


def _tail(path: Path, size: int) -> str:
    """The file's last lines, whole ones where more than one fits, in at most `size` characters."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4 * size))
        text = file.read().decode("utf-8", "replace").strip()
    if len(text) <= size:
        return text
    cut = text[-size:]
    return cut.partition("\n")[2] or cut
