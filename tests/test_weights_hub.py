"""A model on the hub, read from a hub of our own on loopback: hashes without bytes, ranges, redirects, refusals."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from heavylift.errors import HeavyliftError, InputError
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift.weights import inspect
from heavylift.weights.hub import Hub
from heavylift.weights.inspect import store_of

ID, COMMIT = "google/tiny-t5", "0123456789abcdef0123456789abcdef01234567"
SPEC = ModelSpec.model_validate({"name": "x", "model": {"id": ID, "revision": COMMIT}})


class HubServer:
    """The hub and, on another port, its storage; `files` by name, those of more than 10 kB in LFS."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.sent, self.tokens, self.status, self.ranges = files, 0, [], 200, True
        self.listing: bytes | None = None
        hub = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), Answer) for _ in range(2)]
        self._threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in self._servers]
        for thread in self._threads:
            thread.start()
        self.address, self._storage = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def close(self) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, request: Any) -> None:
        at_storage = request.server is self._servers[1]
        self.tokens.append(("storage" if at_storage else "hub", request.headers.get("Authorization")))
        name = request.path.rsplit("/", 1)[1]
        if self.status != 200:
            self._send(request, self.status, b"")
        elif request.path == f"/api/models/{ID}/tree/{COMMIT}":
            self._send(request, 200, self._listing() if self.listing is None else self.listing)
        elif not at_storage and len(self.files[name]) > 10_000:
            request.send_response(302)
            request.send_header("Location", f"{self._storage}/{name}")
            request.send_header("Content-Length", "0")
            request.end_headers()
        else:
            start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-")) if self.ranges else 0
            self._send(request, 206 if self.ranges else 200, self.files[name][start:])

    def _send(self, request: Any, status: int, body: bytes) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        try:
            for first in range(0, len(body), 1 << 16):
                request.wfile.write(body[first : first + (1 << 16)])
                self.sent += len(body[first : first + (1 << 16)])
        except OSError:
            pass  # the reader has seen enough

    def _listing(self) -> bytes:
        rows: list[dict[str, Any]] = [{"type": "directory", "path": "onnx", "size": 0}]
        for name, content in self.files.items():
            lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
            rows.append({"type": "file", "path": name, "size": len(content)})
            rows[-1] |= {"lfs": lfs} if len(content) > 10_000 else {}
        return json.dumps(rows).encode()


@pytest.fixture
def hub(tiny_t5: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    files = {path.name: path.read_bytes() for path in tiny_t5.iterdir()} | {"README.md": b"# tiny"}
    server = HubServer(files)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "secret")
    yield server
    server.close()


def test_a_lock_of_the_hub_is_the_folders_but_for_where_it_lies(hub: HubServer, tiny_t5: Path, tmp_path: Path) -> None:
    (tmp_path / "m").symlink_to(tiny_t5)
    folder = inspect(ModelSpec.model_validate({"name": "x", "model": {"path": "m"}}), tmp_path)

    lock = inspect(SPEC, tmp_path)

    assert (lock.model.source, lock.model.revision) == (f"hub:{ID}", COMMIT)
    assert (lock.model.weights, lock.model.config) == (folder.model.weights, folder.model.config)
    assert (lock.model.parameters, lock.model.tensor_bytes) == (1_707_008, 6_828_032)
    assert Plan.fit(SPEC, lock).instance.type == "ml.c6i.large"


def test_weights_are_not_downloaded_to_be_locked(hub: HubServer, tmp_path: Path) -> None:
    # the header comes with the first MiB, and loopback has some more under way when the reader hangs up
    hub.files["model.safetensors"] = _padded(hub.files["model.safetensors"], 64 << 20)

    lock = inspect(SPEC, tmp_path)

    assert lock.model.weights.bytes > 64 << 20 > 3 * hub.sent
    (entry,) = [file for file in lock.model.weights.files if file.path == "model.safetensors"]
    assert entry.sha256 == hashlib.sha256(hub.files["model.safetensors"]).hexdigest()


def _padded(content: bytes, size: int) -> bytes:
    """The same safetensors file with one more tensor of `size` bytes."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    end = len(content) - 8 - length
    header["padding"] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :] + bytes(size)


def test_the_token_goes_to_the_hub_and_not_to_its_storage(hub: HubServer) -> None:
    content = b"".join(Hub(ID, COMMIT).read("model.safetensors"))

    assert content == hub.files["model.safetensors"]
    assert hub.tokens == [("hub", "Bearer secret")] * 2 + [("storage", None)]


def test_a_file_is_read_from_where_a_push_broke_off(hub: HubServer) -> None:
    store = store_of(SPEC, Path())

    assert b"".join(store.read("model.safetensors", 1000)) == hub.files["model.safetensors"][1000:]
    hub.ranges = False
    with pytest.raises(HeavyliftError, match=r"does not send model\.safetensors in parts"):
        next(store.read("model.safetensors", 1000))


def test_files_in_folders_and_other_files_do_not_belong_to_the_model(hub: HubServer) -> None:
    names = set(Hub(ID, COMMIT).files())

    assert "README.md" not in names and "onnx" not in names
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, f"accept the licence of {ID} on its page, and set HF_TOKEN"),
        (404, f"there is no model {ID} with commit {COMMIT}"),
        (429, "the hub answers 429: try again later"),
        (503, "the hub answers 503: try again later"),
        (400, "check 'model.id' and 'model.revision'"),
    ],
)
def test_what_the_hub_refuses_is_said_with_its_mend(hub: HubServer, status: int, sentence: str, tmp_path: Path) -> None:
    hub.status = status

    with pytest.raises(InputError, match=sentence):
        inspect(SPEC, tmp_path)


@pytest.mark.parametrize("listing", [b"{", b"{}", b"[1]", b'[{"type": "file", "path": "a", "size": -1}]', b"[" * 99999])
def test_a_listing_that_is_none_is_refused(hub: HubServer, listing: bytes) -> None:
    hub.listing = listing

    with pytest.raises(HeavyliftError, match="list of files is not what its interface promises"):
        Hub(ID, COMMIT).files()


def test_a_hub_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(HeavyliftError, match=r"cannot reach http://127\.0\.0\.1:9: .*; without it, use model\.path"):
        inspect(SPEC, tmp_path)


def test_an_endpoint_that_is_no_address_is_refused() -> None:
    with pytest.raises(InputError, match="must be an https:// address"):
        Hub(ID, COMMIT, endpoint="file:///etc")
