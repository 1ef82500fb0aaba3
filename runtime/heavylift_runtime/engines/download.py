"""Weights from S3 into a local folder, for scripts, which want a path. Not the native loader: that one streams.

Only a prefix with a manifest.json is complete; every file's size and SHA-256 are checked against it (docs/formats.md).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from heavylift_runtime.errors import LoadError

_FORMAT = "heavylift.manifest/1"
_CHUNK = 2**20


@dataclass(frozen=True)
class Entry:
    """One line of a manifest; size in bytes."""

    path: str
    size: int
    sha256: str


def fetch(uri: str, scratch: Path, report: Callable[[str], None]) -> Path:
    """The folder with the prefix's files; copies of the model on one machine share it. Raises LoadError."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise LoadError(f"option.model_id must be s3://bucket/prefix/: got {uri!r}")
    prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
    target = scratch / "weights"
    with (scratch / "weights.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return target
        partial = scratch / "weights.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        _fetch(bucket, prefix, partial, report)
        partial.rename(target)
    return target


def _fetch(bucket: str, prefix: str, folder: Path, report: Callable[[str], None]) -> None:
    import boto3  # only scripts with weights in S3 need it
    from botocore.exceptions import BotoCoreError, ClientError

    store = boto3.client("s3")
    name = f"s3://{bucket}/{prefix}manifest.json"
    try:
        entries = read_manifest(store.get_object(Bucket=bucket, Key=f"{prefix}manifest.json")["Body"].read(), name)
        for number, entry in enumerate(entries, start=1):
            report(f"downloading {entry.path} ({entry.size} bytes, file {number} of {len(entries)})")
            _copy(store.get_object(Bucket=bucket, Key=prefix + entry.path)["Body"], folder / entry.path, entry)
    except (ClientError, BotoCoreError) as error:
        raise LoadError(f"cannot read the weights of s3://{bucket}/{prefix}: {error}") from error


def read_manifest(text: bytes, name: str) -> list[Entry]:
    """The files of a manifest; raises LoadError where it is not one, or leads out of the folder."""
    try:
        document = json.loads(text)
        entries = [Entry(str(each["path"]), int(each["size"]), str(each["sha256"])) for each in document["files"]]
        found = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise LoadError(f"{name} is not a manifest: {error!r}") from error
    if found != _FORMAT:
        raise LoadError(f"{name} has the format {found!r}: this version reads {_FORMAT!r}")
    for entry in entries:
        path = PurePosixPath(entry.path)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in entry.path:
            raise LoadError(f"{name} names a file outside of its folder: {entry.path!r}")
    return entries


def _copy(stream: Any, path: Path, entry: Entry) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for chunk in stream.iter_chunks(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    if size != entry.size or digest.hexdigest() != entry.sha256:
        raise LoadError(
            f"{entry.path} is not the file of the manifest: {size} bytes with SHA-256 {digest.hexdigest()}, "
            f"expected {entry.size} with {entry.sha256}; push the weights again"
        )
