"""Ranges of a file over HTTP, straight into memory, at a small part of the processor's time that botocore takes.

Not a client of S3 or of a hub: those say where a file is to be had, and what to do with whatever is not a whole 206.
Nothing here goes through a proxy.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
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


class Ranges:
    """Each thread's connections, one for each host, kept open from one range to the next."""

    def __init__(self, locate: Callable[[str], Located]) -> None:
        """`locate`: where a file is to be had for some time; asked again after a range that broke, or Broken itself."""
        self._locate, self._files = locate, dict[str, tuple[SplitResult, Mapping[str, str]]]()
        self._thread = _Thread()

    def read(self, name: str, start: int, buffers: Sequence[memoryview]) -> None:
        """Fills the buffers, one after the other, from byte `start` on; Broken: what they hold is worth nothing."""
        found, lines = self._files.get(name), self._thread.lines
        if found is None:
            address, sent = self._locate(name)
            found = urlsplit(address), sent
            if (url := found[0]).scheme in urllib.request.getproxies():
                raise Broken(f"{url.hostname} is to be reached by a proxy")
            self._files[name] = found
        url, sent = found
        size = sum(map(len, buffers))
        try:
            line = lines.get(url.netloc)
            if line is None:
                line = lines[url.netloc] = Line(url)
            line.ask(url, {"Range": f"bytes={start}-{start + size - 1}", **sent})
            reply = line.head()
            if reply.length != size or not (reply.status == 206 or (reply.status == 200 and start == 0)):
                raise Broken(f"{url.hostname} answers {reply.status} {reply.reason}", reply.status)
            for buffer in buffers:
                if not line.fill(buffer):
                    raise Broken(f"{url.hostname} ended before all of {size} bytes came")
            if not reply.stays:
                lines.pop(url.netloc).close()
        except (Broken, OSError, ValueError) as error:  # the last: an address or an answer that is not HTTP
            # the rest of a reply goes with its connection; the next request opens it anew, where the file then is
            if self._files.get(name) is found:
                del self._files[name]
            if (line := lines.pop(url.netloc, None)) is not None:
                line.close()
            if isinstance(error, Broken):
                raise
            raise Broken(f"{url.hostname} broke off: {error!r}") from error


class _Thread(threading.local):
    """A thread's connections."""

    def __init__(self) -> None:
        self.lines = _Lines()


class _Lines(dict[str, Line]):
    """By host; closed when the thread ends, or nobody reads any more."""

    def __del__(self) -> None:
        for line in self.values():
            line.close()
