"""What a stateful script keeps between requests: a folder for each session, which all copies of the model see.

Not the sessions of text models: the server's own (server/sessions.py). Values are written by session_values.py and
arrays are memory-mapped, so that nothing is unpickled. `option.sessions_path` (else a folder in /dev/shm) and
`option.sessions_expiration` (1200 s without use) are LMI's. Source: deepjavalibrary/djl-serving v0.33 to v0.36,
engines/python, session_manager.py and its example of a stateful model.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from djl_python.session_values import dumps, loads

_FOLDER, _EXPIRATION = "djl_sessions", "1200"
_HEADER = "X-Amzn-SageMaker-Session-Id"
_NEW = "NEW_SESSION"  # what a client sends that has no session yet


class Session:
    """One client's session. `files_path` is its folder, for files of the script's own."""

    def __init__(self, session_id: str, session_root: str, expiration_ts: float | None = None) -> None:
        self.session_id = session_id
        self.files_path = os.path.join(session_root, session_id)
        self.expiration_ts = expiration_ts

    def put(self, key: str, value: Any) -> None:
        """Keep a value, which comes back as it is; TypeError for one that cannot (session_values.py)."""
        text = dumps(value)
        partial = self._file(key, f"{os.getpid()}.partial")
        partial.write_text(text)
        partial.replace(self._file(key, "json"))

    def get(self, key: str, d: Any = None) -> Any:
        """The value, or `d`."""
        try:
            return loads(self._file(key, "json").read_text())
        except FileNotFoundError:
            return d

    def get_as_numpy(self, key: str, shape: int | Sequence[int], dtype: Any = "float32", create: bool = False) -> Any:
        """An array that is kept as it is written to; `create`: a new one, of zeros, also where there is one.

        ValueError where there is none of this shape and type.
        """
        import numpy as np

        file, wanted = self._file(key, "npy"), ((shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype))
        if create:  # beside the old one, whose bytes another copy may have mapped
            partial = self._file(key, f"{os.getpid()}.partial")
            made = np.lib.format.open_memmap(partial, "w+", wanted[1], wanted[0])
            partial.replace(file)
            return made
        if not file.is_file():
            raise ValueError(f"session {self.session_id} has no array {key!r}: give create=True")
        found: Any = np.lib.format.open_memmap(file, "r+")
        if (found.shape, found.dtype) != wanted:
            raise ValueError(f"the array {key!r} has shape {found.shape} and type {found.dtype}: not {shape}, {dtype}")
        return found

    def remove(self) -> bool:
        """Forget the session and all it keeps; ValueError where it is not there."""
        if not os.path.isdir(self.files_path):
            raise ValueError(f"there is no open session {self.session_id!r}")
        shutil.rmtree(self.files_path)
        return True

    def _file(self, key: str, ending: str) -> Path:
        return Path(self.files_path, f"key-{quote(key, safe='')}.{ending}")


class SessionManager:
    """The sessions of one model."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        shared = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
        self.sessions_path = str(properties.get("sessions_path", os.path.join(shared, _FOLDER)))
        self.expiration = float(properties.get("sessions_expiration", _EXPIRATION))
        self._path = Path(self.sessions_path)
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create_session(self) -> Session:
        """A new one, with an id that nobody can guess; those that are over leave their place."""
        for folder in self._path.iterdir():
            if self._over(folder):
                shutil.rmtree(folder, ignore_errors=True)
        session_id = str(uuid.uuid4())
        (self._path / session_id).mkdir(mode=0o700)
        return self._opened(session_id)

    def get_session(self, session_id: Any) -> Session | None:
        """The open session of an id, or of a request with the header.

        None where there is none (any more), or the client asks for a new one; ValueError where it is no session's id.
        """
        wanted = session_id.get_property(_HEADER) if hasattr(session_id, "get_property") else session_id
        if not wanted or wanted == _NEW:
            return None
        try:
            name = str(uuid.UUID(str(wanted)))
        except ValueError as error:  # it may be a path
            raise ValueError(f"a session's id is 36 characters that create_session gave: got {wanted!r:.60}") from error
        folder = self._path / name
        if self._over(folder):
            return None
        os.utime(folder)
        return self._opened(name)

    def close_session(self, session_id: Any) -> None:
        """Forget it; ValueError where it is not open."""
        session = self.get_session(session_id)
        if session is None:
            raise ValueError(f"there is no open session {session_id!r}")
        session.remove()

    def _opened(self, name: str) -> Session:
        return Session(name, self.sessions_path, time.time() + self.expiration)

    def _over(self, folder: Path) -> bool:
        try:
            return folder.stat().st_mtime < time.time() - self.expiration
        except FileNotFoundError:  # another copy has removed it
            return True
