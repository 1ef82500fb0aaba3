"""A pinned revision on the Hugging Face hub: its files, their hashes, and their bytes in ranges. Not a cache of them.

The hub's HTTP interface: https://huggingface.co/docs/hub/api. Large files lie in LFS, whose object id is their SHA-256,
so that a lock needs headers and small files only. HF_TOKEN is sent to the hub, and to no host that it redirects to;
HF_ENDPOINT names another hub.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from heavylift.errors import HeavyliftError, InputError
from heavylift.weights.store import CHUNK, belonging

ENDPOINT = "https://huggingface.co"
TIMEOUT = 60  # seconds without a byte
ATTEMPTS, PAUSE = 5, 0.5  # of one range without a byte between; seconds, more after each
LARGEST_LISTING = 1 << 24  # bytes
SHA256 = re.compile(r"[0-9a-f]{64}")


class Hub:
    """A model's files at one commit."""

    def __init__(self, id_: str, revision: str, *, endpoint: str | None = None, token: str | None = None) -> None:
        """`endpoint`, `token`: None for HF_ENDPOINT and HF_TOKEN of the environment."""
        self._endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
        self._token = token or os.environ.get("HF_TOKEN")
        self._id, self._revision = id_, revision
        self._listed: dict[str, dict[str, Any]] | None = None
        if urlsplit(self._endpoint).scheme not in ("https", "http"):
            raise InputError(f"HF_ENDPOINT is {self._endpoint!r}; it must be an https:// address")

    @property
    def title(self) -> str:
        return f"{self._id}@{self._revision[:7]}"

    def files(self) -> dict[str, int]:
        listed = self._list()
        return {name: listed[name]["size"] for name in belonging(listed, self.title)}

    def sha256(self, name: str) -> str | None:
        """What the hub says, of files in LFS; None for the small ones, which have to be read."""
        oid = (self._list()[name].get("lfs") or {}).get("oid")
        return oid if isinstance(oid, str) and SHA256.fullmatch(oid) else None

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """A connection that is cut is opened again where it ended, ATTEMPTS times without a byte at most."""
        size, failures = self._list()[name]["size"], 0
        while start < size:
            try:
                for chunk in self._range(name, start, reopened=failures > 0):
                    start, failures = start + len(chunk), 0
                    yield chunk
                if start < size:
                    raise ConnectionError(f"it ended after {start} of {size} bytes")
            except (OSError, HTTPException) as error:
                failures += 1
                if failures == ATTEMPTS:
                    raise HeavyliftError(f"{self.title}: {name} broke off: {error}; run the command again") from error
                time.sleep(PAUSE * failures)

    def _range(self, name: str, start: int, *, reopened: bool) -> Iterator[bytes]:
        address = f"{self._endpoint}/{self._id}/resolve/{self._revision}/{quote(name)}"
        try:
            answer = self._open(address, {"Range": f"bytes={start}-"})
        except InputError:
            raise
        except HeavyliftError as error:
            if reopened:
                raise ConnectionError(str(error)) from error
            raise
        with answer:
            if start and answer.status != 206:
                raise HeavyliftError(f"{self.title}: the hub does not send {name} in parts")
            while chunk := answer.read(CHUNK):
                yield chunk

    def _list(self) -> dict[str, dict[str, Any]]:
        if self._listed is None:
            address = f"{self._endpoint}/api/models/{self._id}/tree/{self._revision}"
            with self._open(address, {}) as answer:
                text = answer.read(LARGEST_LISTING)
            try:
                rows = json.loads(text)
                files = {row["path"]: row for row in rows if row["type"] == "file" and "/" not in row["path"]}
                sound = isinstance(rows, list) and all(
                    type(row["size"]) is int and row["size"] >= 0 for row in files.values()
                )
            except (ValueError, TypeError, KeyError, RecursionError):
                sound = False
            if not sound:
                raise HeavyliftError(f"{self.title}: the hub's list of files is not what its interface promises")
            self._listed = files
        return self._listed

    def _open(self, address: str, headers: dict[str, str]) -> HTTPResponse:
        if self._token is not None:
            headers = {**headers, "Authorization": f"Bearer {self._token}"}
        opener: OpenerDirector = build_opener(_Redirect)
        try:
            answer: HTTPResponse = opener.open(Request(address, headers=headers), timeout=TIMEOUT)
        except HTTPError as error:
            error.close()
            raise InputError(f"{self.title}: the hub answers {error.code}: {self._mend(error.code)}") from error
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise HeavyliftError(
                f"cannot reach {self._endpoint}: {reason}; without it, use model.path, or plan from the model's config "
                "alone: `heavylift plan FILE --config config.json`"
            ) from error
        return answer

    def _mend(self, code: int) -> str:
        if code in (401, 403):
            return f"accept the licence of {self._id} on its page, and set HF_TOKEN to a token that may read it"
        if code == 404:
            return f"there is no model {self._id} with commit {self._revision}, or HF_TOKEN may not see it"
        return "try again later" if code >= 500 or code == 429 else "check 'model.id' and 'model.revision'"


class _Redirect(HTTPRedirectHandler):
    """Follows to the hub's storage, without the token: that belongs to the hub alone."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            following.remove_header("Authorization")
        return following
