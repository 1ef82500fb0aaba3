"""The push into the weight bucket: resumable, checked against the lock, complete only with its manifest."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws

from heavylift.errors import HeavyliftError, InputError
from heavylift.plan.lock import Lock, read_fresh
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift.weights import inspect
from heavylift.weights.push import Pushed, push, push_config
from heavylift.weights.store import Folder, Prefix
from heavylift.weights.upload import MOST_PARTS, SMALLEST_PART, part_size

BUCKET = "weights"
PART = 5 << 20  # bytes; the smallest that S3 takes


class Line:
    """boto3's client, which counts the bytes of each part and breaks after some of them."""

    def __init__(self, client: Any, breaks_after: int | None = None) -> None:
        self._client, self._left, self._turn = client, breaks_after, threading.Lock()
        self.parts: list[int] = []
        self.puts: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def upload_part(self, **arguments: Any) -> Any:
        with self._turn:
            if self._left is not None and len(self.parts) >= self._left:
                raise EndpointConnectionError(endpoint_url="https://s3")
            self.parts.append(arguments["PartNumber"])
        return self._client.upload_part(**arguments)

    def put_object(self, **arguments: Any) -> Any:
        self.puts.append(arguments["Key"].rsplit("/", 1)[1])
        return self._client.put_object(**arguments)


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.fixture
def large(tmp_path: Path, tiny_t5: Path) -> tuple[Plan, Lock, Path]:
    """tiny-t5's files and a text file of three parts and a bit."""
    folder = tmp_path / "m"
    folder.mkdir()
    for path in tiny_t5.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "words.txt").write_bytes(b"".join(bytes([number]) * PART for number in range(3)) + b"end")
    spec = ModelSpec.model_validate({"name": "x", "model": {"path": "m"}})
    lock = inspect(spec, tmp_path)
    return Plan.fit(spec, lock), lock, folder


def keys(s3: Any) -> list[str]:
    return [row["Key"] for row in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def unfinished(s3: Any) -> list[str]:
    return [row["Key"] for row in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]


def test_a_push_leaves_every_file_and_a_manifest_that_lists_them(s3: Any, large: tuple[Plan, Lock, Path]) -> None:
    plan, lock, folder = large
    seen: list[tuple[int, int]] = []

    done = push(plan, lock, Folder(folder), BUCKET, s3, lambda *each: seen.append(each), smallest_part=PART)

    prefix, total = plan.weights_prefix, lock.model.weights.bytes
    manifest = json.loads(s3.get_object(Bucket=BUCKET, Key=f"{prefix}manifest.json")["Body"].read())
    names = [*(path.name for path in folder.iterdir()), "manifest.json"]
    assert keys(s3) == sorted(prefix + name for name in names)
    assert manifest["format"] == "heavylift.manifest/1" and manifest["digest"] == plan.weights_digest
    for row in manifest["files"]:
        body = s3.get_object(Bucket=BUCKET, Key=prefix + row["path"])["Body"].read()
        assert (len(body), hashlib.sha256(body).hexdigest()) == (row["size"], row["sha256"])
    assert done == Pushed(f"s3://{BUCKET}/{prefix}", total, 0)
    assert seen[-1] == (total, total) and seen == sorted(seen)


def test_a_second_push_sends_nothing(s3: Any, large: tuple[Plan, Lock, Path]) -> None:
    plan, lock, folder = large
    push(plan, lock, Folder(folder), BUCKET, s3, smallest_part=PART)
    line = Line(s3)

    again = push(plan, lock, Folder(folder), BUCKET, line, smallest_part=PART)

    assert (again.sent, again.already, line.parts, line.puts) == (0, lock.model.weights.bytes, [], [])


def test_an_interrupted_push_shows_no_manifest_and_resumes_without_its_finished_parts(
    s3: Any, large: tuple[Plan, Lock, Path]
) -> None:
    plan, lock, folder = large
    broken = Line(s3, breaks_after=2)
    with pytest.raises(HeavyliftError, match="run the same command to resume"):
        push(plan, lock, Folder(folder), BUCKET, broken, smallest_part=PART)
    assert len(broken.parts) == 2
    assert f"{plan.weights_prefix}manifest.json" not in keys(s3)
    assert f"{plan.weights_prefix}words.txt" not in keys(s3)

    line = Line(s3)
    done = push(plan, lock, Folder(folder), BUCKET, line, smallest_part=PART)

    assert len(line.parts) == 2 + 4 - 2  # model.safetensors has two parts, words.txt four; two had arrived
    assert done.sent + done.already == lock.model.weights.bytes and done.already >= PART
    assert f"{plan.weights_prefix}manifest.json" in keys(s3) and unfinished(s3) == []
    body = s3.get_object(Bucket=BUCKET, Key=f"{plan.weights_prefix}words.txt")["Body"].read()
    assert body == (folder / "words.txt").read_bytes()


def test_an_interrupt_stops_every_file_and_loses_nothing(s3: Any, large: tuple[Plan, Lock, Path]) -> None:
    plan, lock, folder = large

    def interrupt(done: int, total: int) -> None:
        if done >= PART:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push(plan, lock, Folder(folder), BUCKET, s3, interrupt, smallest_part=PART)
    assert f"{plan.weights_prefix}manifest.json" not in keys(s3)

    done = push(plan, lock, Folder(folder), BUCKET, s3, smallest_part=PART)

    assert done.already >= PART and f"{plan.weights_prefix}manifest.json" in keys(s3)


def test_files_that_arrived_before_an_interrupt_are_not_sent_again(s3: Any, large: tuple[Plan, Lock, Path]) -> None:
    plan, lock, folder = large
    push(plan, lock, Folder(folder), BUCKET, s3, smallest_part=PART)
    for name in ("manifest.json", "config.json"):
        s3.delete_object(Bucket=BUCKET, Key=plan.weights_prefix + name)
    line = Line(s3)

    done = push(plan, lock, Folder(folder), BUCKET, line, smallest_part=PART)

    assert (line.parts, line.puts) == ([], ["config.json", "manifest.json"])
    assert done.sent == (folder / "config.json").stat().st_size


def test_an_object_of_the_same_size_but_other_content_is_replaced(s3: Any, large: tuple[Plan, Lock, Path]) -> None:
    plan, lock, folder = large
    key = f"{plan.weights_prefix}config.json"
    s3.put_object(Bucket=BUCKET, Key=key, Body=bytes((folder / "config.json").stat().st_size))

    push(plan, lock, Folder(folder), BUCKET, s3, smallest_part=PART)

    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == (folder / "config.json").read_bytes()


@pytest.mark.parametrize("name", ["words.txt", "config.json"])
def test_a_file_that_changed_since_the_lock_is_refused_and_nothing_is_declared(
    s3: Any, large: tuple[Plan, Lock, Path], name: str
) -> None:
    plan, lock, folder = large
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b"?")

    with pytest.raises(InputError, match=f"{name} changed since the lock was written"):
        push(plan, lock, Folder(folder), BUCKET, s3, smallest_part=PART)

    assert not {f"{plan.weights_prefix}{each}" for each in (name, "manifest.json")} & set(keys(s3))
    assert f"{plan.weights_prefix}{name}" not in unfinished(s3)


def test_missing_and_resized_files_are_all_named_before_a_byte_is_sent(s3: Any, large: tuple[Plan, Lock, Path]) -> None:
    plan, lock, folder = large
    (folder / "tokenizer.json").unlink()
    (folder / "words.txt").write_bytes(b"")

    with pytest.raises(InputError) as caught:
        push(plan, lock, Folder(folder), BUCKET, s3)

    assert ["is missing" in fault or "changed" in fault for fault in caught.value.faults] == [True, True]
    assert keys(s3) == []


def test_a_resumed_part_of_other_content_is_sent_again(s3: Any, large: tuple[Plan, Lock, Path]) -> None:
    plan, lock, folder = large
    key = f"{plan.weights_prefix}words.txt"
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=2, Body=bytes(PART))
    s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=bytes(PART))
    line = Line(s3)

    push(plan, lock, Folder(folder), BUCKET, line, smallest_part=PART)

    assert sorted(line.parts) == [1, 2, 2, 3, 4]  # two of model.safetensors; words.txt's first, zeros, was right
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == (folder / "words.txt").read_bytes()


def test_a_model_in_s3_is_copied_through(s3: Any, large: tuple[Plan, Lock, Path]) -> None:
    plan, lock, folder = large
    for path in folder.iterdir():
        s3.put_object(Bucket=BUCKET, Key=f"mine/{path.name}", Body=path.read_bytes())

    push(plan, lock, Prefix(f"s3://{BUCKET}/mine/", s3), BUCKET, s3, smallest_part=PART)

    assert f"{plan.weights_prefix}manifest.json" in keys(s3)


def test_a_bucket_that_is_not_there_says_what_to_deploy(s3: Any, large: tuple[Plan, Lock, Path]) -> None:
    plan, lock, folder = large

    with pytest.raises(InputError, match="there is no bucket nowhere; deploy the foundation stack first"):
        push(plan, lock, Folder(folder), "nowhere", s3)


def test_every_part_carries_its_checksum_and_no_key_is_named(s3: Any, large: tuple[Plan, Lock, Path]) -> None:
    plan, lock, folder = large
    sent: list[tuple[str, dict[str, Any]]] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        sent.append((model.name, dict(params)))

    s3.meta.events.register("before-parameter-build.s3.*", note)

    push(plan, lock, Folder(folder), BUCKET, s3, smallest_part=PART)

    written = [(name, given) for name, given in sent if name in ("PutObject", "UploadPart")]
    assert len(written) == 5 + 6 and all("ChecksumSHA256" in given for _, given in written)
    assert not any("SSEKMSKeyId" in given or "ServerSideEncryption" in given for _, given in sent)


@pytest.mark.parametrize("name", ["tiny-t5", "tiny-t5-script"])
def test_the_config_is_pushed_under_its_own_digest(s3: Any, tiny_t5: Path, name: str) -> None:
    file = tiny_t5.parent / f"{name}.yaml"
    spec = ModelSpec.from_yaml(file)
    plan = Plan.fit(spec, read_fresh(spec, file))

    first = push_config(plan, file.parent, BUCKET, s3)
    again = push_config(plan, file.parent, BUCKET, s3)

    prefix = plan.config_prefix
    names = {key.removeprefix(prefix) for key in keys(s3)}
    assert {"serving.properties", "manifest.json"} <= names and ("model.py" in names) == (name == "tiny-t5-script")
    assert first.sent > 0 and (again.sent, again.already) == (0, first.sent)


def test_a_plan_of_another_lock_is_our_own_mistake(s3: Any, large: tuple[Plan, Lock, Path]) -> None:
    plan, lock, folder = large

    with pytest.raises(AssertionError, match="the plan was made from this lock"):
        push(replace(plan, weights_digest="0" * 64), lock, Folder(folder), BUCKET, s3)


@pytest.mark.parametrize("size", [1, SMALLEST_PART, 10**11, 48_800 << 30 >> 4, 5 * 10**12])
def test_parts_are_few_enough_and_the_same_for_the_same_size(size: int) -> None:
    part = part_size(size)

    assert -(-size // part) <= MOST_PARTS and SMALLEST_PART <= part <= 5 << 30
    assert part % (1 << 20) == 0
