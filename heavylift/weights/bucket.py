"""The weight bucket: prefixes named by a digest, complete when their manifest is there. Not what is put into them.

Layout: docs/formats.md, "S3 layout". The bucket's default encryption applies; nothing here names a key.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from heavylift.errors import HeavyliftError, InputError
from heavylift.plan.digest import File

MANIFEST = "manifest.json"
MANIFEST_FORMAT = "heavylift.manifest/1"
ABSENT = ("404", "NoSuchKey", "NotFound")
SHA256 = "sha256"  # the object's metadata key: a multipart object has no checksum of the whole


class Bucket:
    """One bucket and boto3's S3 client."""

    def __init__(self, name: str, client: Any) -> None:
        self.name = name
        self.client = client

    def holds(self, key: str, file: File) -> bool:
        """This very content is there already."""
        head = self._head(key)
        return head is not None and head["ContentLength"] == file.size and head["Metadata"].get(SHA256) == file.sha256

    def complete(self, prefix: str) -> bool:
        """The prefix has its manifest, which is written last."""
        return self._head(prefix + MANIFEST) is not None

    def put(self, key: str, content: bytes, file: File) -> None:
        """One request; S3 refuses bytes that do not have the file's SHA-256."""
        with self.speaking():
            self.client.put_object(
                Bucket=self.name,
                Key=key,
                Body=content,
                ChecksumSHA256=b64encode(bytes.fromhex(file.sha256)).decode(),
                Metadata={SHA256: file.sha256},
            )

    def put_manifest(self, prefix: str, digest: str, files: Iterable[File]) -> None:
        """Declare the prefix complete."""
        rows = [asdict(file) for file in sorted(files, key=lambda file: file.path)]
        document = {"format": MANIFEST_FORMAT, "digest": digest, "files": rows}
        content = (json.dumps(document, indent=2) + "\n").encode()
        self.put(prefix + MANIFEST, content, File.of(MANIFEST, content))

    def pages(self, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """A paginated listing."""
        with self.speaking():
            yield from self.client.get_paginator(operation).paginate(Bucket=self.name, **arguments)

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Turns the client's exceptions into sentences."""
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code == "NoSuchBucket":
                raise InputError(f"there is no bucket {self.name}; deploy the foundation stack first") from error
            raise HeavyliftError(f"S3 refused on bucket {self.name}: {error}") from error
        except BotoCoreError as error:
            raise HeavyliftError(f"cannot reach bucket {self.name}: {error}; run the same command to resume") from error

    def _head(self, key: str) -> dict[str, Any] | None:
        with self.speaking():
            try:
                head: dict[str, Any] = self.client.head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ABSENT:
                    return None
                raise
        return head
