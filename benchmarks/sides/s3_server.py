"""A folder as an S3 bucket on loopback: enough of the API to list and to read ranges, at the speed of sendfile.

Not S3: any key is accepted, nothing is written. moto's server reads a whole object for each range of it, so that it and
not the loader would be measured. `python s3_server.py FOLDER` prints its port; the bucket is any name.
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

ROOT = Path(sys.argv[1]).resolve()


class Bucket(BaseHTTPRequestHandler):
    """GET and HEAD of /bucket/key, and ListObjectsV2."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each small reply waits 40 ms for the client's delayed acknowledgement

    def do_HEAD(self) -> None:
        self._object(body=False)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if unquote(parts.path).strip("/").count("/") == 0:
            self._list(parse_qs(parts.query).get("prefix", [""])[0])
        else:
            self._object(body=True)

    def _list(self, prefix: str) -> None:
        found = sorted(path for path in ROOT.rglob("*") if path.is_file())
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{path.stat().st_size}</Size><ETag>&quot;0&quot;</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
            for path in found
            if (key := path.relative_to(ROOT).as_posix()).startswith(prefix)
        )
        self._send(
            200, f'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>'
        )

    def _send(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _object(self, *, body: bool) -> None:
        path = (ROOT / unquote(urlsplit(self.path).path).strip("/").partition("/")[2]).resolve()
        if not path.is_relative_to(ROOT) or not path.is_file():
            self._send(404, "<Error><Code>NoSuchKey</Code></Error>")
            return
        size = path.stat().st_size
        first, last = 0, size - 1
        if asked := self.headers.get("Range"):
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.flush()
        with path.open("rb") as file:
            while body and first <= last:
                first += os.sendfile(self.connection.fileno(), file.fileno(), first, last - first + 1)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    print(server.server_address[1], flush=True)
    server.serve_forever()
