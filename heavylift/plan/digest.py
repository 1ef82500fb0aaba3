"""The digest of a set of files: one name for their paths, sizes and contents. Not the hashing of a file's bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """A file of a set: relative path with '/', size in bytes, SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: str, content: bytes) -> File:
        """The entry for a content in memory."""
        return cls(path, len(content), hashlib.sha256(content).hexdigest())


def digest(files: Iterable[File]) -> str:
    """SHA-256 (hex) of the lines `<sha256>  <size>  <path>` over the files sorted by path."""
    lines = (f"{file.sha256}  {file.size}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
