"""A multi-model container's models: each archive is fetched, unpacked and loaded when it is first asked for.

Not the container, nor what a model answers. The contract is SageMaker's (developer guide, "Build your own container for
multi-model endpoints"): POST /models loads, DELETE /models/NAME unloads, 507 asks for another model to be unloaded.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from .archive import ArchiveFault, unpack
from .container import Container
from .errors import ApiError


def many(container: dict[str, Any]) -> bool:
    """Whether a Model's container serves many models."""
    return container.get("Mode") == "MultiModel"


class Models:
    """The models of one container, the one that was asked for last at the end. Safe from any thread."""

    def __init__(self, s3: Any, prefix: str, container: Container) -> None:
        self._s3 = s3
        self._bucket, _, self._prefix = prefix.removeprefix("s3://").partition("/")
        self._container = container
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def path(self, target: str) -> str:
        """Where `target` is invoked, once it is loaded. ApiError where it cannot be."""
        name = hashlib.sha256(target.encode()).hexdigest()[:32]
        if not self._asked(name):
            with self._loading:  # one at a time: each looks at the memory that the one before it has left
                if not self._asked(name):
                    self._load(name, target)
        return f"/models/{name}/invoke"

    def _asked(self, name: str) -> bool:
        """Whether the model is loaded; then it is the last to be unloaded."""
        with self._lock:
            if name in self._loaded:
                self._loaded.move_to_end(name)
            return name in self._loaded

    def _load(self, name: str, target: str) -> None:
        folder = self._container.folder / "models" / name / "model"
        if not folder.is_dir():
            self._unpack(target, folder)
        while True:
            status, text = self._container.ask("POST", "/models", {"model_name": name, "url": str(folder)})
            with self._lock:
                if status in (200, 409):
                    self._loaded[name] = None
                    return
                if status != 507 or not self._loaded:
                    raise _failed(status, text, target, self._container)
                oldest, _ = self._loaded.popitem(last=False)
            self._container.ask("DELETE", f"/models/{oldest}")

    def _unpack(self, target: str, folder: Path) -> None:
        try:
            unpack(self._s3, self._bucket, f"{self._prefix}{target.lstrip('/')}", folder)
        except ArchiveFault as fault:
            raise ApiError("ValidationError", str(fault)) from None


def _failed(status: int, text: str, target: str, container: Container) -> ApiError:
    told = f'Received error ({status}) from the container while it loaded "{target}": "{text}". See {container.log}.'
    members = {"OriginalStatusCode": status, "OriginalMessage": text, "LogStreamArn": str(container.log)}
    return ApiError("ModelError", told, 424, members)
