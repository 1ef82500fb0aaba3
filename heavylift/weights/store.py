"""Where a model's files lie before they are pushed: a local folder, or a prefix in S3. Not the weight bucket.

Only these files belong to a model (docs/formats.md): safetensors, else bin; json, model and txt. Subfolders do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from heavylift.errors import HeavyliftError, InputError

CHUNK = 1 << 20  # bytes
RESERVED = "manifest.json"
NAME = re.compile(r"[A-Za-z0-9._+-]+")  # one line of the digest, one segment of a key


class Store(Protocol):
    """A flat set of files."""

    @property
    def title(self) -> str:
        """For sentences: the folder or the prefix."""

    def files(self) -> dict[str, int]:
        """Name → bytes, of the files that belong to a model."""

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """The bytes of a file from `start` on, in chunks."""


class Folder:
    """A local folder; links may not lead out of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def title(self) -> str:
        return str(self.path)

    def files(self) -> dict[str, int]:
        if not self.path.is_dir():
            raise InputError(f"no model folder {self.path}; 'model.path' names a folder, relative to the model file")
        home = self.path.resolve()
        found = {path.name: path for path in self.path.iterdir() if path.is_file()}
        names = belonging(found, self.title)
        outside = [name for name in names if home not in found[name].resolve().parents]
        if outside:
            raise InputError(f"{self.path / name} is a link out of the model folder; copy the file" for name in outside)
        return {name: found[name].stat().st_size for name in names}

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        try:
            with (self.path / name).open("rb") as file:
                file.seek(start)
                while chunk := file.read(CHUNK):
                    yield chunk
        except OSError as error:
            raise InputError(f"cannot read {self.path / name}: {error.strerror or error}") from error


class Prefix:
    """`s3://bucket/prefix/`, read with the user's own client."""

    def __init__(self, uri: str, client: Any) -> None:
        self.title = uri
        self.bucket, _, self.prefix = uri.removeprefix("s3://").partition("/")
        self._client = client

    def files(self) -> dict[str, int]:
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix, Delimiter="/"
            )
            rows = [row for page in pages for row in page.get("Contents", [])]
        except (ClientError, BotoCoreError) as error:
            raise HeavyliftError(f"cannot list {self.title}: {error}") from error
        sizes = {row["Key"].removeprefix(self.prefix): int(row["Size"]) for row in rows}
        return {name: sizes[name] for name in belonging(sizes, self.title)}

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        try:
            body = self._client.get_object(Bucket=self.bucket, Key=self.prefix + name, Range=f"bytes={start}-")["Body"]
            yield from body.iter_chunks(CHUNK)
        except (ClientError, BotoCoreError) as error:
            raise HeavyliftError(f"cannot read {self.title}{name}: {error}") from error


def belonging(names: Iterable[str], title: str) -> list[str]:
    """The names that belong to a model, sorted. Raises InputError where none holds weights."""
    every = sorted(name for name in names if name and not name.startswith("."))
    if RESERVED in every:
        raise InputError(f"{title} has a {RESERVED}: Heavylift writes a file of that name itself; remove it")
    weights = ".safetensors" if any(name.endswith(".safetensors") for name in every) else ".bin"
    kept = [name for name in every if name.endswith((weights, ".json", ".model", ".txt"))]
    other = ".bin" if weights == ".safetensors" else ".safetensors"
    kept = [name for name in kept if not name.endswith(f"{other}.index.json")]
    if not any(name.endswith(weights) for name in kept):
        raise InputError(f"{title} has no weights: neither *.safetensors nor *.bin")
    if odd := [name for name in kept if not NAME.fullmatch(name)]:
        raise InputError(f"{title}: {name!r} must be named with letters, digits, '.', '_', '-' and '+'" for name in odd)
    return kept
