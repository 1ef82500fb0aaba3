"""A folder as an S3 bucket on loopback: enough of the API to list and to read ranges, at the speed of sendfile, or TLS.

Not S3: any key is accepted, nothing is written. moto's server reads a whole object for each range of it, and
http.server takes as long over a request as a loader over a megabyte, so that they and not the loader would be measured.
`python s3_server.py FOLDER [CERTIFICATE KEY]` prints its port; the bucket is any name.
"""

from __future__ import annotations

import mmap
import os
import ssl
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

ROOT, PROOF = Path(sys.argv[1]).resolve(), sys.argv[2:]
LINE = 65536
MISSING = "<Error><Code>NoSuchKey</Code></Error>"


class Bucket(StreamRequestHandler):
    """GET and HEAD of /bucket/key, and ListObjectsV2."""

    disable_nagle_algorithm = True  # else each small reply waits 40 ms for the client's delayed acknowledgement

    def handle(self) -> None:
        while first := self.rfile.readline(LINE):
            method, target, _ = first.decode("latin-1").split(" ", 2)
            headers = {}
            while (line := self.rfile.readline(LINE)).strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            parts = urlsplit(target)
            try:
                if unquote(parts.path).strip("/").count("/") == 0:
                    self._list(parse_qs(parts.query).get("prefix", [""])[0])
                else:
                    self._object(parts.path, headers.get("range"), body=method == "GET")
            except (ConnectionError, ssl.SSLError):  # who reads has left
                return

    def _list(self, prefix: str) -> None:
        found = sorted(path for path in ROOT.rglob("*") if path.is_file())
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{path.stat().st_size}</Size><ETag>&quot;0&quot;</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
            for path in found
            if (key := path.relative_to(ROOT).as_posix()).startswith(prefix)
        )
        listed = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        self._text("200 OK", f'<?xml version="1.0"?>{listed}')

    def _text(self, status: str, text: str) -> None:
        self._head(status, len(text.encode()), "Content-Type: application/xml\r\n")
        self.wfile.write(text.encode())

    def _head(self, status: str, length: int, more: str) -> None:
        self.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}\r\n".encode("latin-1"))

    def _object(self, address: str, asked: str | None, *, body: bool) -> None:
        file, size = opened(unquote(address).strip("/").partition("/")[2])
        if file is None:
            self._text("404 Not Found", MISSING if body else "")
            return
        first, last = 0, size - 1
        if asked is not None:
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
        span = f"Content-Range: bytes {first}-{last}/{size}\r\n" if asked is not None else ""
        self._head(
            "206 Partial Content" if asked is not None else "200 OK",
            last - first + 1,
            f'{span}Accept-Ranges: bytes\r\nETag: "0"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n',
        )
        if body and PROOF:
            self.connection.sendall(mapped(file)[first : last + 1])
        elif body:
            while first <= last:
                first += os.sendfile(self.connection.fileno(), file, first, last - first + 1)


@cache
def opened(key: str) -> tuple[int | None, int]:
    """A file and its size, looked for once: for each request that took as long as half a megabyte takes."""
    path = (ROOT / key).resolve()
    if not path.is_relative_to(ROOT) or not path.is_file():
        return None, 0
    return os.open(path, os.O_RDONLY), path.stat().st_size


@cache
def mapped(file: int) -> memoryview:
    """All of a file."""
    return memoryview(mmap.mmap(file, 0, prot=mmap.PROT_READ))


@cache
def context() -> ssl.SSLContext:
    """Who this is, over TLS."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(*PROOF)
    return found


class Server(ThreadingTCPServer):
    """As many connections at once as all readers of all ranks open."""

    daemon_threads, request_queue_size = True, 128

    def finish_request(self, request: Any, client_address: Any) -> None:
        with suppress(ConnectionError):  # in the handshake
            super().finish_request(
                context().wrap_socket(request, server_side=True) if PROOF else request, client_address
            )


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Bucket)
    print(server.server_address[1], flush=True)
    server.serve_forever()
