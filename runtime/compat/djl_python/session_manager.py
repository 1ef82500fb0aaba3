"""What a stateful script keeps between requests: a folder for each session, which all copies of the model see.

Not the sessions of text models: the server's own (server/sessions.py). Values are JSON and arrays are memory-mapped, so
that nothing is unpickled. `option.sessions_path` (else a folder in /dev/shm) and `option.sessions_expiration` (1200 s
without use) are LMI's. Source: deepjavalibrary/djl-serving v0.36, engines/python, its example of a stateful model.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

_PATH, _EXPIRATION = "/dev/shm/djl_sessions", "1200"
_HEADER = "X-Amzn-SageMaker-Session-Id"


class Session:
    """One client's session."""

    def __init__(self, session_id: str, folder: Path) -> None:
        self.session_id = session_id
        self._folder = folder

    def put(self, key: str, value: Any) -> None:
        """Keep a value that JSON has; TypeError for any other."""
        partial = self._file(key, f"{os.getpid()}.partial")
        partial.write_text(json.dumps(value))
        partial.replace(self._file(key, "json"))

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or the default."""
        try:
            return json.loads(self._file(key, "json").read_text())
        except FileNotFoundError:
            return default

    def get_as_numpy(self, key: str, shape: Sequence[int], dtype: Any = "float32", create: bool = False) -> Any:
        """An array that is kept as it is written to; ValueError where there is none of this shape and type."""
        import numpy as np

        file, wanted = self._file(key, "npy"), (tuple(shape), np.dtype(dtype))
        if create and not file.is_file():
            return np.lib.format.open_memmap(file, "w+", wanted[1], wanted[0])
        if not file.is_file():
            raise ValueError(f"session {self.session_id} has no array {key!r}: give create=True")
        found: Any = np.lib.format.open_memmap(file, "r+")
        if (found.shape, found.dtype) != wanted:
            raise ValueError(f"the array {key!r} has shape {found.shape} and type {found.dtype}: not {shape}, {dtype}")
        return found

    def remove(self, key: str) -> None:
        """Forget a value and an array."""
        for ending in ("json", "npy"):
            self._file(key, ending).unlink(missing_ok=True)

    def _file(self, key: str, ending: str) -> Path:
        return self._folder / f"key-{quote(key, safe='')}.{ending}"


class SessionManager:
    """The sessions of one model."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._path = Path(properties.get("sessions_path", _PATH))
        self._seconds = float(properties.get("sessions_expiration", _EXPIRATION))
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create_session(self) -> Session:
        """A new one, with an id that nobody can guess; those that are over leave their place."""
        for folder in self._path.iterdir():
            if self._over(folder):
                shutil.rmtree(folder, ignore_errors=True)
        session_id = str(uuid.uuid4())
        (self._path / session_id).mkdir(mode=0o700)
        return Session(session_id, self._path / session_id)

    def get_session(self, session_id: Any) -> Session | None:
        """The open session of an id, or of a request with the header; None where there is none."""
        wanted = session_id.get_property(_HEADER) if hasattr(session_id, "get_property") else session_id
        folder = self._folder(wanted)
        if folder is None or self._over(folder):
            return None
        os.utime(folder)
        return Session(folder.name, folder)

    def close_session(self, session_id: Any) -> None:
        """Forget it; ValueError where it is not open."""
        session = self.get_session(session_id)
        if session is None:
            raise ValueError(f"there is no open session {session_id!r}")
        shutil.rmtree(self._path / session.session_id)

    def _folder(self, session_id: Any) -> Path | None:
        try:
            name = str(uuid.UUID(str(session_id)))
        except ValueError:  # no id of ours, and no path
            return None
        folder = self._path / name
        return folder if folder.is_dir() else None

    def _over(self, folder: Path) -> bool:
        try:
            return folder.stat().st_mtime < time.time() - self._seconds
        except FileNotFoundError:  # another copy has removed it
            return True
