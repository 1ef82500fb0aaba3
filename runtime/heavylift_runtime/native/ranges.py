"""Ranges of a file over HTTP, straight into memory, at a small part of the processor's time that botocore takes.

Not a client of S3 or of a hub: those say where a file is to be had, and what to do with whatever is not a whole 206.
Nothing here goes through a proxy.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

from heavylift_runtime.native.line import TIMEOUT, Line

__all__ = ["TIMEOUT", "Broken", "Located", "Ranges"]

Located = tuple[str, Mapping[str, str]]
"""Where a file is to be had: the URL, and the headers to send along."""


class Broken(Exception):
    """Why a range did not come whole; `status` is HTTP's, where there was an answer."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class Ranges(threading.local):
    """A thread's connections, one for each host, kept open from one range to the next."""

    def __init__(self, locate: Callable[[str], Located]) -> None:
        """`locate`: where a file is to be had for some time; asked again after a range that broke, or Broken itself."""
        self._locate, self._files = locate, dict[str, tuple[SplitResult, Mapping[str, str]]]()
        self._hosts = _Open()

    def read(self, name: str, start: int, buffers: Sequence[memoryview]) -> None:
        """Fills the buffers, one after the other, from byte `start` on; Broken: what they hold is worth nothing."""
        if name not in self._files:
            address, sent = self._locate(name)
            self._files[name] = urlsplit(address), sent
            if (url := self._files[name][0]).scheme in urllib.request.getproxies():
                self._break(name, f"{url.hostname} is to be reached by a proxy")
        url, sent = self._files[name]
        size = sum(map(len, buffers))
        try:
            line = self._hosts.get(url.netloc)
            if line is None:
                line = self._hosts[url.netloc] = Line(url)
            line.ask(url, {"Range": f"bytes={start}-{start + size - 1}", **sent})
            reply = line.head()
            if reply.length != size or not (reply.status == 206 or (reply.status == 200 and start == 0)):
                self._break(name, f"{url.hostname} answers {reply.status} {reply.reason}", reply.status)
            for buffer in buffers:
                if not line.fill(buffer):
                    self._break(name, f"{url.hostname} ended before all of {size} bytes came")
            if not reply.stays:
                self._hosts.pop(url.netloc).close()
        except (OSError, ValueError) as error:  # the second: an address or an answer that is not HTTP
            self._break(name, f"{url.hostname} broke off: {error!r}")

    def _break(self, name: str, sentence: str, status: int | None = None) -> NoReturn:
        """The rest of a reply goes with its connection; the next request opens it anew, where the file then is."""
        line = self._hosts.pop(self._files.pop(name)[0].netloc, None)
        if line is not None:
            line.close()
        raise Broken(sentence, status)


class _Open(dict[str, Line]):
    """A thread's connections, by host; closed when the thread ends, or nobody reads any more."""

    def __del__(self) -> None:
        for line in self.values():
            line.close()
