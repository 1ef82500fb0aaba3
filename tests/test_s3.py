"""A prefix in S3 over real connections: throttled, cut, replaced or expired, and read all the same, or refused."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.retries.standard import ExponentialBackoff

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.s3 import ATTEMPTS, Prefix
from heavylift_runtime.native.sources import whole

CONTENT = bytes(range(256)) * 64
Answer = Callable[["Store"], bool]
"""What happens to a request of an object; whether it was answered."""


class Store(BaseHTTPRequestHandler):
    """A bucket of one object, `weights/a`; the server's `faults` come before its answers, each once."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: S3

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.signed += "X-Amz-Signature" in parts.query
        if "list-type" in parse_qs(parts.query):
            self.send("200", self.listing(parse_qs(parts.query).get("continuation-token")))
        elif not (self.server.faults and self.server.faults.pop(0)(self)):
            self.content(unquote(parts.path))

    def listing(self, after: list[str] | None) -> bytes:
        """Of as many pages as the server's names; names as S3 sends them where `encoding-type=url` is asked for."""
        page = int(after[0]) if after else 0
        entry = (
            f"<Contents><Key>weights/{quote(self.server.names[page])}</Key><Size>{len(CONTENT)}</Size>"
            f"<ETag>&quot;{self.server.tag}&quot;</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )
        more = page + 1 < len(self.server.names)
        entry += f"<NextContinuationToken>{page + 1}</NextContinuationToken>" * more
        encoded = f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>"
        return f"<ListBucketResult>{encoded}{entry}</ListBucketResult>".encode()

    def content(self, path: str) -> None:
        if path != "/bucket/weights/a":
            self.send("404", error("NoSuchKey"))
        elif self.headers.get("If-Match", self.server.tag).strip('"') != self.server.tag:
            self.send("412", error("PreconditionFailed"))
        else:
            self.send("206", self.part())

    def part(self) -> bytes:
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        return CONTENT[int(first) : int(last) + 1]

    def send(self, status: str, body: bytes, length: int | None = None) -> None:
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("ETag", f'"{self.server.tag}"')
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = length is not None

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def handle(self) -> None:
        with suppress(ConnectionError):  # who reads hangs up in the midst of what it does not want
            super().handle()


class S3(ThreadingHTTPServer):
    """The store, what will go wrong in it, and how many requests were signed in their URL."""

    faults: list[Answer]
    tag = hashlib.md5(CONTENT).hexdigest()
    names: tuple[str, ...] = ("a",)
    signed = 0


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>told by a test</Message></Error>".encode()


def refused(status: int, code: str) -> Answer:
    def answer(store: Store) -> bool:
        store.send(str(status), error(code))
        return True

    return answer


def cut(store: Store) -> bool:
    """Half of what was promised, and then nobody is there."""
    part = store.part()
    store.send("206", part[: len(part) // 2], len(part))
    return True


def hung_up(store: Store) -> bool:
    store.close_connection = True
    return True


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0)  # botocore's pauses between its attempts
    with S3(("127.0.0.1", 0), Store) as server:
        server.faults = []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        settings = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in {**settings, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}"}.items():
            monkeypatch.setenv(name, value)
        yield server
        server.shutdown()


def test_ranges_come_by_a_signed_url(s3: S3) -> None:
    source, buffers = Prefix.at("s3://bucket/weights/"), [bytearray(5), bytearray(90)]

    assert source.files() == {"a": len(CONTENT)}
    source.read_into("a", 300, *(memoryview(buffer) for buffer in buffers))

    assert b"".join(buffers) == CONTENT[300:395]
    assert s3.signed == 1


def test_files_are_listed_to_the_last_page(s3: S3) -> None:
    s3.names = ("a", "a b+%/ö", "z")

    source = Prefix.at("s3://bucket/weights/")

    assert source.files() == dict.fromkeys(s3.names, len(CONTENT))
    assert source.version("z") == f'"{s3.tag}"'


@pytest.mark.parametrize(
    "faults",
    [
        [refused(503, "SlowDown")] * 4,
        [refused(500, "InternalError")] * 3,
        [cut] * ATTEMPTS,
        [hung_up] * 4,
        [refused(403, "ExpiredToken")],  # of a URL that was signed before the credentials were renewed
        [refused(503, "SlowDown"), cut, hung_up, refused(500, "InternalError"), cut],
    ],
    ids=["throttled", "failing", "cut", "hung up", "a signature that expired", "everything"],
)
def test_what_passes_is_tried_again(s3: S3, faults: list[Answer]) -> None:
    source = Prefix.at("s3://bucket/weights/")
    s3.faults = list(faults)

    assert whole(source, "a", len(CONTENT)) == CONTENT
    assert not s3.faults

    s3.signed = 0
    assert whole(source, "a", len(CONTENT)) == CONTENT  # and afterwards by a signed URL again
    assert s3.signed == 1


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (refused(403, "ExpiredToken"), r"weights/a: cannot be read: .*ExpiredToken.*; .* renew them, and start again"),
        (refused(403, "AccessDenied"), r"weights/a: cannot be read: .*AccessDenied.*; the role needs s3:ListBucket"),
        (refused(503, "SlowDown"), r"weights/a: cannot be read: .*SlowDown.*; S3 is busy; start again later"),
        (cut, rf"weights/a: bytes=0-16383 failed {ATTEMPTS} times: "),
        (hung_up, r"weights/a: bytes=0-16383 failed 4 times: "),
    ],
    ids=["expired", "denied", "throttled", "cut", "hung up"],
)
def test_what_does_not_pass_is_said_after_a_bounded_number_of_tries(s3: S3, fault: Answer, sentence: str) -> None:
    source = Prefix.at("s3://bucket/weights/")
    s3.faults = [fault] * 100

    with pytest.raises(LoadError, match=sentence):
        whole(source, "a", len(CONTENT))

    assert len(s3.faults) >= 100 - 1 - 6 * ATTEMPTS  # botocore: once, and five times again


def test_where_botocore_has_waited_for_minutes_nobody_waits_again() -> None:
    class Silent:
        asked = 0

        def get_object(self, **request: object) -> None:
            self.asked += 1
            raise ReadTimeoutError(endpoint_url="http://s3")

    client = Silent()
    with pytest.raises(LoadError, match=r"weights/a: S3 does not answer: Read timeout"):
        Prefix("bucket", "weights", client).read_into("a", 0, memoryview(bytearray(16384)))

    assert client.asked == 1


def test_an_object_that_was_replaced_while_it_was_read_is_refused(s3: S3) -> None:
    source, buffer = Prefix.at("s3://bucket/weights/"), memoryview(bytearray(100))
    source.files()
    source.read_into("a", 0, buffer)
    s3.tag = "another"

    with pytest.raises(LoadError, match=r"weights/a: cannot be read: .*; it was replaced while it was read; start"):
        source.read_into("a", 100, buffer)


def test_no_credentials_and_no_endpoint_are_said(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers credentials
    with pytest.raises(LoadError, match=r"s3://bucket/weights/: cannot list the model's files: .*credentials"):
        Prefix.at("s3://bucket/weights/").files()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(LoadError, match=r"s3://bucket/weights/: there is no client for S3: Invalid endpoint"):
        Prefix.at("s3://bucket/weights/")
