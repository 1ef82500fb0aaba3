"""One file's multipart upload, resumed where an earlier one stopped. Not the choice of files: that is push.py.

The file is read once, in order: each part is hashed for S3, all bytes together for the lock, and the object comes to be
only when that hash is the lock's. S3's rules for parts: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
"""

from __future__ import annotations

import hashlib
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from heavylift.errors import HeavyliftError, InputError
from heavylift.plan.digest import File
from heavylift.weights.bucket import SHA256, Bucket
from heavylift.weights.store import Store

SMALLEST_PART = 16 << 20  # bytes; S3 allows 5 MiB
MOST_PARTS = 10_000


def part_size(size: int, smallest: int = SMALLEST_PART) -> int:
    """Bytes of each part of a file but the last: the same for the same size, so that a later run can resume."""
    needed = -(-size // MOST_PARTS)
    return max(smallest, -(-needed // (1 << 20)) << 20)


def parts(store: Store, name: str, size: int) -> Iterator[bytes]:
    """The file's bytes in pieces of `size`, the last one shorter."""
    piece = bytearray()
    for chunk in store.read(name):
        piece += chunk
        while len(piece) >= size:
            yield bytes(piece[:size])
            del piece[:size]
    if piece:
        yield bytes(piece)


def changed(store: Store, file: File) -> InputError:
    """The bytes are not those of the lock."""
    return InputError(
        f"{store.title.rstrip('/')}/{file.path} changed since the lock was written; "
        f"write the lock anew with `heavylift plan`, or bring the old file back"
    )


class Line:
    """What all uploads of a push share: `slots` parts on their way at once, and a stop. Memory: a part a slot."""

    def __init__(self, slots: int) -> None:
        self._pool = ThreadPoolExecutor(slots)
        self._free = threading.BoundedSemaphore(slots)
        self._stopped = threading.Event()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def stop(self) -> None:
        """Every upload ends at its next part and stays resumable."""
        self._stopped.set()

    def send(self, send: Callable[[], dict[str, Any]]) -> Future[dict[str, Any]]:
        """Waits for a free slot."""
        self._free.acquire()
        if self._stopped.is_set():
            self._free.release()
            raise HeavyliftError("the upload was stopped; run the same command to resume")
        future = self._pool.submit(send)
        future.add_done_callback(lambda _: self._free.release())
        return future


class Upload:
    """A multipart upload of one file; `sent` counts the bytes that went over the line."""

    def __init__(self, bucket: Bucket, key: str, file: File, size: int) -> None:
        self._bucket, self._key, self._file, self._size = bucket, key, file, size
        self.sent = 0

    def run(self, store: Store, line: Line, progress: Callable[[int], None]) -> None:
        """Send the parts that S3 has not; `progress` gets the bytes of each that is there.

        Raises InputError when the bytes are not the lock's: then the upload is aborted. Stays resumable otherwise.
        """
        upload_id, there = self._resumed() or (self._created(), {})
        whole = hashlib.sha256()
        arrived: dict[int, dict[str, Any]] = {}
        running: dict[Future[dict[str, Any]], tuple[int, int]] = {}
        try:
            for number, body in enumerate(parts(store, self._file.path, self._size), start=1):
                whole.update(body)
                if _same(there.get(number), body):
                    arrived[number] = _named(number, there[number])
                    progress(len(body))
                else:
                    running[line.send(partial(self._send, upload_id, number, body))] = (number, len(body))
                self._collect(running, arrived, progress, [future for future in running if future.done()])
            self._collect(running, arrived, progress, list(running))
        finally:
            for future in running:
                future.cancel()
            wait(running)
        if whole.hexdigest() != self._file.sha256:
            with self._bucket.speaking():
                self._bucket.client.abort_multipart_upload(**self._names, UploadId=upload_id)
            raise changed(store, self._file)
        with self._bucket.speaking():
            self._bucket.client.complete_multipart_upload(
                **self._names, UploadId=upload_id, MultipartUpload={"Parts": [arrived[n] for n in sorted(arrived)]}
            )

    @property
    def _names(self) -> dict[str, str]:
        return {"Bucket": self._bucket.name, "Key": self._key}

    def _created(self) -> str:
        with self._bucket.speaking():
            reply = self._bucket.client.create_multipart_upload(
                **self._names, ChecksumAlgorithm="SHA256", Metadata={SHA256: self._file.sha256}
            )
        return str(reply["UploadId"])

    def _resumed(self) -> tuple[str, dict[int, dict[str, Any]]] | None:
        """The latest unfinished upload of this key, and its parts by number."""
        pages = self._bucket.pages("list_multipart_uploads", Prefix=self._key)
        found = [row for page in pages for row in page.get("Uploads", []) if row["Key"] == self._key]
        if not found:
            return None
        upload_id = str(max(found, key=lambda row: row["Initiated"])["UploadId"])
        pages = self._bucket.pages("list_parts", Key=self._key, UploadId=upload_id)
        return upload_id, {int(row["PartNumber"]): row for page in pages for row in page.get("Parts", [])}

    def _send(self, upload_id: str, number: int, body: bytes) -> dict[str, Any]:
        checksum = b64encode(hashlib.sha256(body).digest()).decode()
        with self._bucket.speaking():
            reply = self._bucket.client.upload_part(
                **self._names, UploadId=upload_id, PartNumber=number, Body=body, ChecksumSHA256=checksum
            )
        return _named(number, {"ChecksumSHA256": checksum, **reply})

    def _collect(
        self,
        running: dict[Future[dict[str, Any]], tuple[int, int]],
        arrived: dict[int, dict[str, Any]],
        progress: Callable[[int], None],
        ready: list[Future[dict[str, Any]]],
    ) -> None:
        for future in ready:
            part = future.result()
            number, size = running.pop(future)
            arrived[number] = part
            self.sent += size
            progress(size)


def _named(number: int, part: dict[str, Any]) -> dict[str, Any]:
    """A part as CompleteMultipartUpload wants it."""
    checksum = {"ChecksumSHA256": part["ChecksumSHA256"]} if part.get("ChecksumSHA256") else {}
    return {"PartNumber": number, "ETag": part["ETag"], **checksum}


def _same(part: dict[str, Any] | None, body: bytes) -> bool:
    """The part that S3 has is this one: by its SHA-256, or, where the server lists none, by its MD5 (the ETag)."""
    if part is None or part["Size"] != len(body):
        return False
    if part.get("ChecksumSHA256"):
        return bool(part["ChecksumSHA256"] == b64encode(hashlib.sha256(body).digest()).decode())
    return bool(part["ETag"].strip('"') == hashlib.md5(body, usedforsecurity=False).hexdigest())
