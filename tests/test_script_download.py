"""Weights from S3 for scripts: complete, checked, inside their folder (moto's S3 in this process)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from heavylift_runtime.engines.download import fetch
from heavylift_runtime.errors import LoadError

FILES = {"config.json": b"{}", "shards/one.safetensors": b"weights" * 1000}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="weights")
        yield client


def push(store: Any, content: dict[str, bytes], **manifest: Any) -> None:
    rows = [{"path": p, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for p, data in content.items()]
    for path, data in content.items():
        store.put_object(Bucket="weights", Key=f"abc/{path}", Body=data)
    document = {"format": "heavylift.manifest/1", "digest": "abc", "files": rows} | manifest
    store.put_object(Bucket="weights", Key="abc/manifest.json", Body=json.dumps(document).encode())


def sentence(scratch: Path) -> str:
    with pytest.raises(LoadError) as caught:
        fetch("s3://weights/abc/", scratch, lambda stage: None)
    assert not (scratch / "weights").exists()
    return str(caught.value)


@pytest.mark.parametrize("uri", ["s3://weights/abc/", "s3://weights/abc"])
def test_the_files_of_the_manifest_arrive(store: Any, tmp_path: Path, uri: str) -> None:
    push(store, FILES)
    stages: list[str] = []

    folder = fetch(uri, tmp_path, stages.append)

    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert stages[0] == "downloading config.json (2 bytes, file 1 of 2)"


def test_a_second_copy_of_the_model_uses_the_files_of_the_first(store: Any, tmp_path: Path) -> None:
    push(store, FILES)
    first = fetch("s3://weights/abc/", tmp_path, lambda stage: None)
    store.delete_object(Bucket="weights", Key="abc/config.json")

    assert fetch("s3://weights/abc/", tmp_path, lambda stage: None) == first


def test_a_prefix_without_a_manifest_is_not_complete(store: Any, tmp_path: Path) -> None:
    assert sentence(tmp_path).startswith("cannot read the weights of s3://weights/abc/: ")


def test_a_file_that_is_not_the_manifests_is_refused(store: Any, tmp_path: Path) -> None:
    push(store, FILES)
    store.put_object(Bucket="weights", Key="abc/config.json", Body=b"[]")

    assert sentence(tmp_path).startswith("config.json is not the file of the manifest: 2 bytes with SHA-256 ")


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "", "a\\b"])
def test_a_manifest_that_leads_out_of_the_folder_is_refused(store: Any, tmp_path: Path, path: str) -> None:
    push(store, FILES, files=[{"path": path, "size": 1, "sha256": "0"}])

    assert f"names a file outside of its folder: {path!r}" in sentence(tmp_path)


@pytest.mark.parametrize("manifest", [{"format": "other/1"}, {"files": [{}]}, {"files": 3}])
def test_what_is_not_a_manifest_is_refused(store: Any, tmp_path: Path, manifest: dict[str, Any]) -> None:
    push(store, FILES, **manifest)

    assert "s3://weights/abc/manifest.json" in sentence(tmp_path)
