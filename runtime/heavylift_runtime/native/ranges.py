"""Ranges of an object by signed URLs, straight into memory, at a tenth of a request's processor time by botocore.

Not a client of S3: whatever is not a whole 206 (an error, a redirect, a cut connection) is left to botocore, which
knows what to do with it. Nothing here is used behind a proxy.
"""

from __future__ import annotations

import http.client
import os
import ssl
import threading
import urllib.request
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

TIMEOUT = 60.0
"""Seconds without a byte."""


class Ranges(threading.local):
    """A thread's connections, one for each host, kept open from one range to the next."""

    def __init__(self, sign: Callable[[str], str]) -> None:
        """`sign`: the URL by which an object can be had for the time of a load."""
        self._sign, self._urls = sign, dict[str, SplitResult]()
        self._hosts: dict[str, http.client.HTTPConnection] = {}

    def read(self, name: str, start: int, buffer: memoryview) -> bool:
        """Whether all of the buffer came, from byte `start` on; if not, what it holds is worth nothing."""
        if name not in self._urls:
            self._urls[name] = urlsplit(self._sign(name))
        url = self._urls[name]
        if url.scheme in urllib.request.getproxies():
            return False
        connection = self._hosts.get(url.netloc)
        if connection is None:
            connection = self._hosts[url.netloc] = _connection(url)
        try:
            connection.request(
                "GET", f"{url.path}?{url.query}", headers={"Range": f"bytes={start}-{start + len(buffer) - 1}"}
            )
            reply = connection.getresponse()
            if reply.status == 206 and reply.length == len(buffer):
                done = 0
                while done < len(buffer) and (count := reply.readinto(buffer[done:])):
                    done += count
                if done == len(buffer):
                    reply.close()
                    return True
        except (OSError, http.client.HTTPException):
            pass  # botocore will meet it again, and say what it is
        connection.close()  # with the rest of the reply; the next request opens it anew
        return False

    def close(self) -> None:
        """This thread's connections; those of a thread that ends go with it."""
        for connection in self._hosts.values():
            connection.close()


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "http":
        return http.client.HTTPConnection(host, url.port, timeout=TIMEOUT)
    # as botocore does: the bundle that AWS_CA_BUNDLE names, else the machine's
    context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
    return http.client.HTTPSConnection(host, url.port, timeout=TIMEOUT, context=context)
