"""A checkpoint on the Hugging Face hub at one commit, read in ranges straight into memory and never stored on disk.

Not a cache (huggingface_hub's), and it writes nothing. The hub's HTTP interface: https://huggingface.co/docs/hub/api.
HF_TOKEN is sent to the hub and to no host that it redirects to; HF_ENDPOINT names another hub.
"""

from __future__ import annotations

import json
import os
import re
import time
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.ranges import TIMEOUT, Broken, Located, Ranges
from heavylift_runtime.native.sources import Remote, behind

ENDPOINT = "https://huggingface.co"
ID = re.compile(r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w-][\w./-]*))?", re.ASCII)
"""`owner/name`, and the branch, tag or commit that is meant; `main` where none is named."""
ATTEMPTS, PAUSE = 5, 0.5
"""Of one range, and the seconds between two; twice as many after each."""
LARGEST_LISTING = 1 << 24
"""Bytes."""
_LICENCE = (
    "there is no such model, or not for everybody: accept its licence on its page, and set HF_TOKEN to one that may "
    "read it"
)
_MENDS = {
    None: "name a local folder, or push the weights to S3 (`heavylift weights push`)",
    401: _LICENCE,
    403: _LICENCE,
    404: "there is no such folder, and no such model or revision on the hub that everybody or HF_TOKEN may see",
    429: "the hub asks for fewer requests; start again later, or push the weights to S3 (`heavylift weights push`)",
}
"""HTTP's status, and what to do."""


class Hub(Remote):
    """A model's files. `main` is looked up once, by each rank for itself: name a commit, and all have the same."""

    def __init__(self, id_: str, revision: str = "main") -> None:
        self._endpoint = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
        self._token = os.environ.get("HF_TOKEN", "").strip() or None  # a file of secrets ends with a line break
        self._id, self._revision = id_, revision
        self._ranges = Ranges(self._locate)
        self.place = f"{id_}@{revision}"
        if urlsplit(self._endpoint).scheme not in ("https", "http"):
            raise LoadError(f"HF_ENDPOINT is {self._endpoint!r}; it must be an https:// address")
        if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
            raise LoadError(f"'model_id' is {id_!r}, and HF_HUB_OFFLINE forbids to ask the hub; name a folder or S3")

    def files(self) -> dict[str, int]:
        address = f"{self._endpoint}/api/models/{self._id}/revision/{quote(self._revision, safe='')}?blobs=true"
        try:
            with self._open(address) as reply:
                listed = json.loads(reply.read(LARGEST_LISTING))
            commit, files = str(listed["sha"]), {str(row["rfilename"]): row["size"] for row in listed["siblings"]}
            if not all(type(size) is int and size >= 0 for size in files.values()):
                raise ValueError("a file has no size")
        except Broken as error:
            raise LoadError(f"{self.place}: cannot list the model's files: {self._said(error)}") from error
        except (OSError, HTTPException) as error:
            raise LoadError(f"{self.place}: cannot list the model's files: the hub broke off: {error!r}") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise LoadError(f"{self.place}: the hub's list of files is not what its interface promises") from error
        self._revision, self.place = commit, f"{self._id}@{commit[:12]}"
        self.revision = f"{self._id}@{commit}"
        return files

    def read_into(self, name: str, start: int, *buffers: memoryview) -> None:
        if not any(map(len, buffers)):
            return
        for attempt in range(ATTEMPTS):
            try:
                # after a first failure, and behind a proxy, by urllib: it goes every way that there is
                return self._ranges.read(name, start, buffers) if attempt == 0 else self._read(name, start, buffers)
            except Broken as error:
                if attempt == ATTEMPTS - 1 or error.status in (401, 404):
                    raise LoadError(f"{self.place} {name}: cannot be read: {self._said(error)}") from error
                if attempt > 0:
                    time.sleep(PAUSE * 2 ** (attempt - 1))

    def _address(self, name: str) -> str:
        return f"{self._endpoint}/{self._id}/resolve/{quote(self._revision, safe='')}/{quote(name)}"

    def _locate(self, name: str) -> Located:
        """Where the hub sends who asks for a file: for large ones to its storage, with a signature."""
        address = self._address(name)
        with self._open(address, {"Range": "bytes=0-0"}) as reply:
            found = urljoin(address, reply.url)
        return found, self._authorized() if _origin(found) == _origin(self._endpoint) else {}

    def _read(self, name: str, start: int, buffers: tuple[memoryview, ...]) -> None:
        left, size = list(buffers), sum(map(len, buffers))
        with self._open(self._address(name), {"Range": f"bytes={start}-{start + size - 1}"}) as reply:
            if reply.status != 206 and start > 0:
                raise Broken("the hub does not send files in parts", reply.status)
            try:
                while left and (count := reply.readinto(left[0])):
                    left = behind(left, count)
            except (OSError, HTTPException) as error:
                raise Broken(f"the hub broke off: {error!r}") from error
        if left:
            raise Broken(f"the hub ended before all of {size} bytes came")

    def _authorized(self) -> dict[str, str]:
        return {} if self._token is None else {"Authorization": f"Bearer {self._token}"}

    def _open(self, address: str, headers: dict[str, str] | None = None) -> HTTPResponse:
        request = Request(address, headers={**(headers or {}), **self._authorized()})
        try:
            reply: HTTPResponse = build_opener(_Redirect).open(request, timeout=TIMEOUT)
        except HTTPError as error:
            error.close()
            raise Broken(f"the hub answers {error.code} {error.reason}", error.code) from error
        except (OSError, HTTPException) as error:  # URLError is an OSError
            raise Broken(f"cannot reach {self._endpoint}: {getattr(error, 'reason', error)}") from error
        return reply

    def _said(self, error: Broken) -> str:
        mend = _MENDS.get(error.status)
        return str(error) if mend is None else f"{error}; {mend}"


class _Redirect(HTTPRedirectHandler):
    """Follows to the hub's storage, without the token: that belongs to the hub alone."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and _origin(newurl) != _origin(req.full_url):
            following.remove_header("Authorization")
        return following


def _origin(address: str) -> tuple[str, str]:
    """The same host without TLS is another one."""
    parts = urlsplit(address)
    return parts.scheme, parts.netloc
