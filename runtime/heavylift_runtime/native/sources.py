"""Where a checkpoint's bytes come from: a local folder, or a prefix in S3. Reads ranges only; writes nothing, ever.

Not a parser: header.py and checkpoint.py know what the bytes mean.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.ranges import Ranges

ATTEMPTS = 4
"""Of one range from S3, beyond botocore's own retries, which end where the body begins."""
SIGNED = 3600
"""Seconds that a signed URL holds; SageMaker ends a start-up that takes longer."""


class Source(Protocol):
    """The files of one checkpoint, by their name relative to it."""

    place: str
    """For messages."""
    readers: int
    """How many reads at once pay off; 1: no threads."""
    pieces: bool
    """Whether many small reads cost no more than their bytes; if not, ranks rather read rows for each other."""

    def files(self) -> dict[str, int]:
        """Name → size in bytes."""

    def read_into(self, name: str, start: int, buffer: memoryview) -> None:
        """Fill `buffer` from byte `start` of file `name`; LoadError where it cannot be filled."""

    def read_rows(self, name: str, start: int, pitch: int, width: int, buffer: memoryview) -> None:
        """Fill `buffer` with pieces of `width` bytes that lie `pitch` bytes apart, the first one at byte `start`."""


class Folder:
    """A checkpoint on a local disk. pread rather than mmap: a file cut short is an error, not a SIGBUS."""

    readers, pieces = 1, True

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path

    def files(self) -> dict[str, int]:
        try:
            return {path.relative_to(self._path).as_posix(): path.stat().st_size for path in self._walk()}
        except OSError as error:
            raise LoadError(f"{self._path}: cannot list the model's folder: {error.strerror}") from error

    def _walk(self) -> Iterator[Path]:
        def refuse(error: OSError) -> None:
            raise error

        for folder, _, names in os.walk(self._path, onerror=refuse):
            yield from (Path(folder, name) for name in names)

    def read_into(self, name: str, start: int, buffer: memoryview) -> None:
        self.read_rows(name, start, len(buffer), len(buffer), buffer)

    def read_rows(self, name: str, start: int, pitch: int, width: int, buffer: memoryview) -> None:
        """Each piece for itself: of a row-split weight, no rank reads the others' columns."""
        if len(buffer) == 0:
            return
        try:
            with open(self._path / name, "rb", buffering=0) as file:
                if pitch > width:  # the other ranks need what is between, and the kernel does not guess such a pattern
                    span = (len(buffer) // width - 1) * pitch + width
                    os.posix_fadvise(file.fileno(), start, span, os.POSIX_FADV_WILLNEED)
                for place, first in enumerate(range(0, len(buffer), width)):
                    offset, wanted = start + place * pitch, buffer[first : first + width]
                    done = os.preadv(file.fileno(), [wanted], offset)
                    while done < len(wanted):  # a signal, a gigabyte or more, or the file's end
                        count = os.preadv(file.fileno(), [wanted[done:]], offset + done)
                        if count == 0:
                            raise LoadError(f"{self._path / name}: ends before byte {offset + width}; copy it again")
                        done += count
        except OSError as error:
            raise LoadError(f"{self._path / name}: cannot be read: {error.strerror}") from error


class Prefix:
    """A checkpoint under `s3://bucket/prefix/`, read in ranges and never stored on disk."""

    readers, pieces = 8, False

    def __init__(self, bucket: str, prefix: str, client: Any, *, signed: bool = False) -> None:
        """`client`: boto3's S3 client. The prefix is a folder: 'a/b' and 'a/b/' are the same.

        `signed`: ranges are read by signed URLs where that works, past the client.
        """
        self._bucket, self._client = bucket, client
        self._ranges = Ranges(self._sign) if signed else None
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.place = f"s3://{bucket}/{self._prefix}"

    @classmethod
    def at(cls, url: str) -> Prefix:
        """With a client of its own; boto3 finds region, credentials and AWS_ENDPOINT_URL in the environment."""
        import boto3
        from botocore.config import Config

        parts = urlsplit(url)
        if not parts.netloc:
            raise LoadError(f"'model_id' is {url!r}; an S3 location has the form s3://bucket/prefix/")
        retries: Any = {"mode": "standard", "max_attempts": 5}
        config = Config(
            max_pool_connections=cls.readers,
            retries=retries,
            connect_timeout=10,
            read_timeout=60,
            signature_version="s3v4",  # of signed URLs, too: S3 demands it for what a KMS key encrypts
        )
        return cls(parts.netloc, parts.path, boto3.client("s3", config=config), signed=True)

    def _sign(self, name: str) -> str:
        request = {"Bucket": self._bucket, "Key": self._prefix + name}
        return str(self._client.generate_presigned_url("get_object", Params=request, ExpiresIn=SIGNED))

    def files(self) -> dict[str, int]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            found = {
                item["Key"].removeprefix(self._prefix): int(item["Size"])
                for page in pages
                for item in page.get("Contents", ())
            }
        except (BotoCoreError, ClientError) as error:
            raise LoadError(f"{self.place}: cannot list the model's files: {error}") from error
        if not found:
            raise LoadError(f"{self.place}: there is nothing under this prefix; push the weights first")
        return found

    def read_into(self, name: str, start: int, buffer: memoryview) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        if len(buffer) == 0 or (self._ranges is not None and self._ranges.read(name, start, buffer)):
            return
        wanted = f"bytes={start}-{start + len(buffer) - 1}"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name, Range=wanted)["Body"]
                done = 0
                while done < len(buffer) and (count := body.readinto(buffer[done:])):
                    done += count
            except ClientError as error:
                raise LoadError(f"{self.place}{name}: cannot be read: {error}") from error
            except BotoCoreError as error:
                if attempt == ATTEMPTS:
                    raise LoadError(f"{self.place}{name}: {wanted} failed {ATTEMPTS} times: {error}") from error
                continue
            if done != len(buffer) or body.read(1):
                raise LoadError(f"{self.place}{name}: {wanted} has {done} bytes; the object was cut or replaced")
            return

    def read_rows(self, name: str, start: int, pitch: int, width: int, buffer: memoryview) -> None:
        """One request for all pieces and what lies between them: a request for each would take longer."""
        count = len(buffer) // width
        if count == 1 or pitch == width:
            return self.read_into(name, start, buffer)
        span = memoryview(bytearray((count - 1) * pitch + width))
        self.read_into(name, start, span)
        for place in range(count):
            buffer[place * width : (place + 1) * width] = span[place * pitch : place * pitch + width]


def source_of(model_id: str | None, model_dir: Path) -> Source:
    """What `option.model_id` names: nothing (the model folder itself), an S3 prefix, or a local folder."""
    if model_id is None:
        return Folder(model_dir)
    if model_id.startswith("s3://"):
        return Prefix.at(model_id)
    folder = Path(model_id)
    folder = folder if folder.is_absolute() else model_dir / folder
    if not folder.is_dir():
        raise LoadError(
            f"'model_id' is {model_id!r}; the native engine loads s3://bucket/prefix/ or an existing local folder"
        )
    return Folder(folder)


def whole(source: Source, name: str, size: int) -> bytes:
    """A small file, read at once."""
    content = bytearray(size)
    source.read_into(name, 0, memoryview(content))
    return bytes(content)
