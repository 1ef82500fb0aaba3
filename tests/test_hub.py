"""A checkpoint on the hub, from a hub of our own on loopback: one commit, ranges, redirects, tokens, refusals."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import Request as Asked

import pytest
import torch

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.engines.native import load
from heavylift_runtime.engines.prompt_files import prompt_files
from heavylift_runtime.errors import LoadError
from heavylift_runtime.native import hub as hub_module
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.hub import ATTEMPTS, Hub, _Redirect
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.partition import partition
from heavylift_runtime.native.sources import Folder, Source, source_of, whole
from heavylift_runtime.options import Options
from tests.native_cores import replies_of
from tests.t5_checkpoints import write_t5

ID, COMMIT = "owner/tiny-t5", "0123456789abcdef0123456789abcdef01234567"
LARGE = 10_000
"""Bytes from which on a file lies in the hub's storage."""


class Answer(BaseHTTPRequestHandler):
    """The hub, or its storage on another port, to which large files are redirected."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Site

    def do_GET(self) -> None:
        site, path = self.server, unquote(urlsplit(self.path).path)
        site.asked.append((path, self.headers.get("Authorization")))
        name = path.rpartition("/")[2]
        if site.statuses:
            self.send(site.statuses.pop(0), b"")
        elif site.breaks:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n[")
            self.close_connection = True
        elif path in (f"/api/models/{ID}/revision/{site.revision}", f"/api/models/{ID}/revision/{COMMIT}"):
            self.send(200, site.listing())
        elif path not in (f"/{ID}/resolve/{COMMIT}/{name}", f"/stored/{name}"):
            self.send(404, b"")
        elif site.storage is not None and len(site.files[name]) > LARGE:
            self.send(302, b"", f"http://127.0.0.1:{site.storage.server_address[1]}/stored/{name}?signature=x")
        else:
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            body = site.files[name][int(first) : int(last or len(site.files[name])) + 1]
            self.send(206, body[: len(body) // 2] if site.cuts else body, length=len(body))

    def send(self, status: int, body: bytes, location: str | None = None, length: int | None = None) -> None:
        self.send_response(status)
        if location is not None:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        if self.server.cuts and length is not None:
            self.server.cuts -= 1
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def handle(self) -> None:
        with suppress(ConnectionError):  # who reads hangs up in the midst of what it does not want
            super().handle()


class Site(ThreadingHTTPServer):
    """A hub of one model, or the storage behind it."""

    def __init__(self, folder: Path, storage: Site | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = {file.name: file.read_bytes() for file in folder.iterdir()}
        self.storage, self.revision = storage, "main"
        self.asked: list[tuple[str, str | None]] = []
        self.statuses: list[int] = []
        self.cuts = 0
        self.breaks = False
        self.told: bytes | None = None

    def listing(self) -> bytes:
        siblings = [{"rfilename": name, "size": len(content)} for name, content in self.files.items()]
        return json.dumps({"sha": COMMIT, "siblings": siblings}).encode() if self.told is None else self.told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_t5(tmp_path_factory.mktemp("written") / "t5")


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(hub_module, "PAUSE", 0)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with Site(folder) as storage, Site(folder, storage) as site:
        for server in (storage, site):
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{site.server_address[1]}")
        yield site
        for server in (storage, site):
            server.shutdown()


def parts(source: Source, rank: int) -> dict[str, torch.Tensor]:
    checkpoint = Checkpoint.open(source)
    with Loader(checkpoint, rank, 2, torch.float32) as loader:
        return {weight.name: loader.take(weight.name) for weight in checkpoint.agree() if checkpoint.find(weight)}


def test_a_model_of_the_hub_is_loaded_as_from_its_folder(hub: Site, folder: Path, tmp_path: Path) -> None:
    for rank in range(2):
        found, expected = parts(source_of(ID, tmp_path), rank), parts(Folder(folder), rank)

        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_branch_is_looked_up_once_and_all_files_are_those_of_its_commit(hub: Site, tmp_path: Path) -> None:
    hub.revision = "refs/pr/1"
    source = source_of(f"{ID}@refs/pr/1", tmp_path)

    assert source.files().keys() == hub.files.keys()
    assert whole(source, "config.json", len(hub.files["config.json"])) == hub.files["config.json"]

    assert source.place == f"{ID}@{COMMIT[:12]}"
    assert {path for path, _ in hub.asked[1:]} == {f"/{ID}/resolve/{COMMIT}/config.json"}


def test_the_revision_is_named_in_the_id_or_beside_it(tmp_path: Path) -> None:
    assert source_of(ID, tmp_path, "v2").place == f"{ID}@v2"
    assert source_of(f"{ID}@v2", tmp_path, "v2").place == f"{ID}@v2"
    with pytest.raises(LoadError, match=r"'model_id' is 'owner/tiny-t5@v1' and 'revision' is 'v2'; leave one"):
        source_of(f"{ID}@v1", tmp_path, "v2")
    assert source_of(None, tmp_path, "v2").place == str(tmp_path)  # HF_REVISION may stand in any environment


def test_the_token_goes_to_the_hub_and_not_to_its_storage(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret\n")  # as it stands in a file
    hub.cuts = 0
    source, weights = Hub(ID), "model.safetensors"
    source.files()

    assert whole(source, weights, len(hub.files[weights])) == hub.files[weights]
    whole(source, "config.json", 5)
    assert hub.storage is not None
    hub.storage.statuses = [403]  # what a signature answers that has expired; then it is asked for anew
    assert whole(source, weights, 100) == hub.files[weights][:100]

    assert {token for _, token in hub.asked} == {"Bearer secret"}
    assert {token for _, token in hub.storage.asked} == {None}


@pytest.mark.parametrize("statuses", [[503] * 4, [429, 500, 502], [403]])
def test_what_passes_is_tried_again(hub: Site, statuses: list[int]) -> None:
    source = Hub(ID)
    source.files()
    hub.statuses = list(statuses)
    assert hub.storage is not None
    hub.storage.cuts = 4 - len(statuses)

    assert whole(source, "model.safetensors", 20_000) == hub.files["model.safetensors"][:20_000]
    assert not hub.statuses and not hub.storage.cuts


def test_what_does_not_pass_is_said_after_a_bounded_number_of_tries(hub: Site) -> None:
    source = Hub(ID)
    source.files()
    for status, sentence in ((503, "the hub answers 503"), (429, "429 .*; the hub asks for fewer requests; start aga")):
        hub.statuses = [status] * 100
        with pytest.raises(LoadError, match=rf"owner/tiny-t5@0123456789ab config.json: cannot be read: .*{sentence}"):
            whole(source, "config.json", 10)
        assert len(hub.statuses) == 100 - ATTEMPTS
    hub.statuses = []
    assert hub.storage is not None
    hub.storage.cuts = 100
    with pytest.raises(LoadError, match=r"model.safetensors: cannot be read: the hub (ended before|broke off)"):
        whole(source, "model.safetensors", 20_000)
    assert hub.storage.cuts >= 100 - 2 * ATTEMPTS


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "the hub answers 401 .*; there is no such model, or not for everybody: accept its licence"),
        (403, "the hub answers 403 .*; there is no such model, or not for everybody: accept its licence"),
        (404, "the hub answers 404 .*; there is no such folder, and no such model or revision on the hub"),
    ],
)
def test_a_model_that_is_not_to_be_had_is_said_at_once(hub: Site, status: int, sentence: str) -> None:
    hub.statuses = [status] * 2

    with pytest.raises(LoadError, match=rf"owner/tiny-t5@main: cannot list the model's files: {sentence}"):
        Hub(ID).files()
    assert len(hub.statuses) == 1


@pytest.mark.parametrize(
    "told",
    [b"", b"[]", b"{}", b'{"sha": "x", "siblings": [{"rfilename": "a"}]}', b"[" * 100_000, b'{"sha":1,"siblings":7}'],
)
def test_a_list_that_is_none_is_refused(hub: Site, told: bytes) -> None:
    hub.told = told

    with pytest.raises(LoadError, match="the hub's list of files is not what its interface promises"):
        Hub(ID).files()


def test_a_list_that_breaks_off_is_said(hub: Site) -> None:
    hub.breaks = True

    with pytest.raises(LoadError, match="cannot list the model's files: the hub broke off: IncompleteRead"):
        Hub(ID).files()


def test_the_token_goes_to_no_other_origin() -> None:
    asked = Asked("https://hub.example/a", headers={"Authorization": "Bearer secret"})

    kept, plain, other = (
        _Redirect().redirect_request(asked, None, 302, "", {}, url)
        for url in ("https://hub.example/b", "http://hub.example/b", "https://storage.example/b")
    )

    assert kept is not None and kept.get_header("Authorization") == "Bearer secret"
    assert plain is not None and plain.get_header("Authorization") is None
    assert other is not None and other.get_header("Authorization") is None


def test_without_a_way_to_the_hub_that_is_said(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(LoadError, match=r"cannot reach http://127.0.0.1:1: .*refused; name a local folder, or push"):
        Hub(ID).files()
    monkeypatch.setenv("HF_ENDPOINT", "ftp://127.0.0.1")
    with pytest.raises(LoadError, match=r"HF_ENDPOINT is 'ftp://127.0.0.1'; it must be"):
        Hub(ID)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(LoadError, match="HF_HUB_OFFLINE forbids to ask the hub"):
        Hub(ID)


def test_the_server_is_told_the_prompts_files_of_a_model_on_the_hub(hub: Site, tmp_path: Path) -> None:
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    hub.files["tokenizer_config.json"] = json.dumps({"chat_template": template}).encode()

    found = prompt_files(Options(model_id=ID), tmp_path)

    assert json.loads(found["tokenizer_config.json"])["chat_template"] == template
    assert prompt_files(Options(model_id=ID, engine="accelerate"), tmp_path) == {}  # its library has a cache of its own
    (tmp_path / ID).mkdir(parents=True)
    assert prompt_files(Options(model_id=ID), tmp_path) == {}


def test_the_engine_answers_from_the_hub_as_from_a_folder(hub: Site, folder: Path) -> None:
    request = Request("0 1 2 3", Sampling(12))

    answers = [
        replies_of(load(options, folder, 0, 1, ""), [request])[0].text
        for options in (Options(), Options.parse("engine=native", {"HF_MODEL_ID": ID, "HF_REVISION": COMMIT}))
    ]

    assert answers[0] == answers[1]


def test_a_partition_of_a_model_on_the_hub_says_which_revision_it_was_made_of(
    hub: Site, folder: Path, tmp_path: Path
) -> None:
    partition(Hub(ID), tmp_path / "hub", 2)
    partition(Folder(folder), tmp_path / "folder", 2)

    made, other = (json.loads((tmp_path / name / "partition.json").read_text()) for name in ("hub", "folder"))
    assert made["source_revision"] == f"{ID}@{COMMIT}" and other["source_revision"] is None
    for ours, theirs in zip(made["files"], other["files"], strict=True):
        assert ours["path"] == theirs["path"]
        contents = [
            (tmp_path / name / each["path"]).read_bytes()[each.get("header_size", 0) :]
            for name, each in (("hub", ours), ("folder", theirs))
        ]
        assert contents[0] == contents[1]
