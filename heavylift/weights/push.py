"""Brings a model's files, and its rendered configuration, into the weight bucket. Not their description: the lock.

Content-addressed and idempotent: what is there is not sent again, the manifest comes last, and a prefix without it is
not complete. Interrupt it anywhere and run it again.
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heavylift.errors import InputError
from heavylift.plan.digest import File
from heavylift.plan.lock import Lock
from heavylift.plan.plan import Plan
from heavylift.serving import config_files
from heavylift.weights.bucket import Bucket
from heavylift.weights.inspect import Progress, silent
from heavylift.weights.store import Store
from heavylift.weights.upload import SMALLEST_PART, Line, Upload, changed, part_size

FILES_AT_ONCE, PARTS_AT_ONCE = 4, 8


@dataclass(frozen=True)
class Pushed:
    """What a push did: bytes sent over the line, bytes that were there already; the prefix's address."""

    uri: str
    sent: int
    already: int


def push(
    plan: Plan,
    lock: Lock,
    store: Store,
    bucket: str,
    client: Any,
    progress: Progress = silent,
    *,
    smallest_part: int = SMALLEST_PART,
) -> Pushed:
    """Upload the lock's files from `store`; `smallest_part` of a multipart upload in bytes.

    Raises InputError when a file is missing or is not the lock's, before the prefix is declared complete.
    """
    weights, target = lock.model.weights, Bucket(bucket, client)
    assert plan.weights_digest == weights.digest, "the plan was made from this lock"
    if not weights.files and not target.complete(plan.weights_prefix):
        raise InputError(f"{plan.name}: the lock was made without the weights; read them first: run `heavylift plan`")
    return copy(store, weights.files, weights.digest, target, progress, smallest_part=smallest_part)


def copy(
    store: Store,
    files: tuple[File, ...],
    digest: str,
    target: Bucket,
    progress: Progress = silent,
    *,
    smallest_part: int = SMALLEST_PART,
) -> Pushed:
    """Bring `files`, whose digest is given, from `store` into the bucket's `weights/<digest>/`. Raises as push does."""
    prefix, total = f"weights/{digest}/", sum(file.size for file in files)
    uri = f"s3://{target.name}/{prefix}"
    if target.complete(prefix):
        progress(total, total)
        return Pushed(uri, 0, total)
    _compare(store, files)
    counter = _Counter(total, progress)
    largest_first = sorted(files, key=lambda file: -file.size)
    with Line(PARTS_AT_ONCE) as line, ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        running = [
            pool.submit(_file, target, prefix, store, file, part_size(file.size, smallest_part), line, counter)
            for file in largest_first
        ]
        try:
            finished, _ = wait(running, return_when=FIRST_EXCEPTION)
            sent = sum(future.result() for future in running if future in finished)
        except BaseException:
            line.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    target.put_manifest(prefix, digest, files)
    return Pushed(uri, sent, total - sent)


def push_config(plan: Plan, spec_dir: Path, bucket: str, client: Any) -> Pushed:
    """Upload serving.properties and the user's code to the plan's config prefix.

    Raises InputError when the code, beside the model file in `spec_dir`, is not the lock's.
    """
    files = config_files(plan, spec_dir)
    target, prefix = Bucket(bucket, client), plan.config_prefix
    entries = tuple(File.of(path, content) for path, content in sorted(files.items()))
    total, uri = sum(file.size for file in entries), f"s3://{bucket}/{prefix}"
    if target.complete(prefix):
        return Pushed(uri, 0, total)
    for file in entries:
        target.put(prefix + file.path, files[file.path], file)
    target.put_manifest(prefix, plan.config_digest, entries)
    return Pushed(uri, total, 0)


def _file(bucket: Bucket, prefix: str, store: Store, file: File, part: int, line: Line, counter: _Counter) -> int:
    """Bytes sent for this file."""
    key = prefix + file.path
    if bucket.holds(key, file):
        counter.add(file.size)
        return 0
    if file.size > part:
        upload = Upload(bucket, key, file, part)
        upload.run(store, line, counter.add)
        return upload.sent
    content = b"".join(store.read(file.path))
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise changed(store, file)
    bucket.put(key, content, file)
    counter.add(file.size)
    return file.size


def _compare(store: Store, files: tuple[File, ...]) -> None:
    """Names and sizes, before the first byte is sent."""
    there = store.files()
    faults = [
        f"{store.title.rstrip('/')}/{file.path} is missing; the lock lists it"
        for file in files
        if file.path not in there
    ]
    faults += [changed(store, file).faults[0] for file in files if file.path in there and there[file.path] != file.size]
    if faults:
        raise InputError(faults)


class _Counter:
    """Adds up the bytes that arrived; calls `progress` from one thread at a time."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress, self._done = total, progress, 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        with self._lock:
            self._done += size
            self._progress(self._done, self._total)
