"""Ranges over TLS: by a bundle that AWS_CA_BUNDLE names, and from no host whose certificate nobody vouches for."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from heavylift_runtime.native.ranges import Broken, Ranges

CONTENT = bytes(index * 31 % 251 for index in range(300_000))


class Store(BaseHTTPRequestHandler):
    """One object's ranges."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        part = CONTENT[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def handle(self) -> None:
        with suppress(ConnectionError, ssl.SSLError):  # who reads hangs up
            super().handle()


def certificate(home: Path, address: str) -> tuple[Path, Path]:
    """A key and a certificate for an address, vouched for by itself alone."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (home / "key.pem").write_bytes(private)
    (home / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return home / "key.pem", home / "certificate.pem"


@pytest.fixture(params=["127.0.0.1"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of an https server on this machine, whose certificate is for `param`, and that certificate."""
    key, vouched = certificate(tmp_path, request.param)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(vouched, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who does not trust it hangs up
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}", vouched
        server.shutdown()


def test_ranges_come_over_tls_from_a_host_that_the_bundle_vouches_for(
    served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, vouched = served
    monkeypatch.setenv("AWS_CA_BUNDLE", str(vouched))
    ranges, places = Ranges(lambda name: (f"{address}/{name}", {})), [bytearray(size) for size in (100_000, 1, 150_000)]

    for start in (0, 777):
        ranges.read("any", start, [memoryview(place) for place in places])

        assert b"".join(places) == CONTENT[start : start + 250_001]


def test_a_host_that_nobody_vouches_for_is_not_read(served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)

    with pytest.raises(Broken, match=r"127.0.0.1 broke off: .*CERTIFICATE_VERIFY_FAILED"):
        Ranges(lambda name: (f"{served[0]}/{name}", {})).read("any", 0, [memoryview(bytearray(10))])


@pytest.mark.parametrize("served", ["127.0.0.2"], indirect=True)
def test_a_certificate_for_another_host_is_refused(served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    address, vouched = served
    monkeypatch.setenv("AWS_CA_BUNDLE", str(vouched))

    with pytest.raises(Broken, match=r"127.0.0.1 broke off: .*IP address mismatch"):
        Ranges(lambda name: (f"{address}/{name}", {})).read("any", 0, [memoryview(bytearray(10))])
