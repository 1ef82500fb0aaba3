"""The staging job as CodeBuild runs it: a process of its own, a hub that misbehaves, and the embedded S3."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heavylift.local.environment import environment
from heavylift.plan.digest import digest
from heavylift.weights.inspect import hashed
from heavylift.weights.store import Folder
from tests.cdk import FLAGS, App, Stack, s3
from tests.conftest import ROOT
from tests.embedded import Embedded
from tests.test_weights_hub import COMMIT, ID, HubServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
WEIGHTS = "model.safetensors"


class Misbehaving(HubServer):
    """`cuts`: replies of the weights that end in their middle, one after the other; `held`: until when none comes."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self.cuts, self.held, self.waits = 0, threading.Event(), threading.Event()
        self.asked: list[str] = []
        self.held.set()

    def answer(self, request: Any) -> None:
        at_storage = request.server is self._servers[1]
        name = request.path.rsplit("/", 1)[1]
        if not at_storage or name != WEIGHTS:
            if at_storage or "resolve" in request.path:
                self.asked.append(name)
            super().answer(request)
            return
        self.asked.append(name)
        self.waits.set()
        self.held.wait(60)
        start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        body = self.files[name][start:]
        if self.cuts == 0:
            self._send(request, 206, body)
            return
        self.cuts -= 1
        request.send_response(206)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) // 3])
        request.close_connection = True


@pytest.fixture
def hub(tiny_t5: Path) -> Iterator[Misbehaving]:
    server = Misbehaving({path.name: path.read_bytes() for path in tiny_t5.iterdir()})
    yield server
    server.held.set()
    server.close()


@pytest.fixture
def bucket(local_aws: Embedded, request: pytest.FixtureRequest) -> str:
    name = f"weights-{abs(hash(request.node.name)) % 10**9}-{os.getpid()}"
    local_aws.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def expected(tiny_t5: Path) -> str:
    store = Folder(tiny_t5)
    return digest(hashed(store, store.files()))


def job(local_aws: Embedded, hub: HubServer, bucket: str, expected: str) -> subprocess.Popen[str]:
    """The buildspec's command, as CodeBuild's shell runs it in its source."""
    from heavylift_cdk.staging import COMMAND

    asked = {"MODEL_ID": ID, "REVISION": COMMIT, "DIGEST": expected, "BUCKET": bucket, "HF_ENDPOINT": hub.address}
    command = COMMAND.replace(" python ", f" exec {shlex.quote(sys.executable)} ", 1)
    return subprocess.Popen(
        ["bash", "-c", command],
        cwd=ROOT,
        env={**environment(local_aws.running.port, os.environ), **asked},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def keys(local_aws: Embedded, bucket: str) -> set[str]:
    rows = local_aws.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
    return {row["Key"].rsplit("/", 1)[1] for row in rows}


def test_a_connection_that_is_cut_is_taken_up_where_it_ended(
    local_aws: Embedded, hub: Misbehaving, bucket: str, expected: str
) -> None:
    hub.cuts = 3

    code, output = ended(job(local_aws, hub, bucket, expected))

    assert code == 0, output
    assert {WEIGHTS, "manifest.json"} <= keys(local_aws, bucket)
    assert hub.asked.count(WEIGHTS) == 2 + 2 * 3, (
        "once at the hub and once at its storage, each time from where it ended"
    )
    assert hub.sent < 1.1 * sum(map(len, hub.files.values()))
    body = local_aws.client("s3").get_object(Bucket=bucket, Key=f"weights/{expected}/{WEIGHTS}")["Body"].read()
    assert body == hub.files[WEIGHTS]


def test_a_job_that_is_killed_leaves_no_manifest_and_the_next_sends_only_what_is_missing(
    local_aws: Embedded, hub: Misbehaving, bucket: str, expected: str
) -> None:
    hub.held.clear()
    first = job(local_aws, hub, bucket, expected)
    assert hub.waits.wait(60)
    deadline = time.monotonic() + 60
    while not keys(local_aws, bucket) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.kill()
    ended(first)
    there = keys(local_aws, bucket)
    assert there and not there & {WEIGHTS, "manifest.json"}

    hub.held.set()
    hub.asked.clear()
    code, output = ended(job(local_aws, hub, bucket, expected))

    assert code == 0, output
    assert WEIGHTS in hub.asked and "manifest.json" in keys(local_aws, bucket)
    again = ended(job(local_aws, hub, bucket, expected))
    assert again[0] == 0 and "0 bytes sent" in again[1], "complete: nothing is read"


def test_bytes_that_are_not_those_of_their_checksum_never_make_a_complete_prefix(
    local_aws: Embedded, hub: Misbehaving, bucket: str, expected: str
) -> None:
    good = hub.files[WEIGHTS]
    listing = hub._listing()
    hub.listing = listing  # still with the right SHA-256
    hub.files[WEIGHTS] = good[:-1] + bytes([good[-1] ^ 1])

    code, output = ended(job(local_aws, hub, bucket, expected))

    assert code == 2 and f"{WEIGHTS} changed since the lock was written" in output
    assert "manifest.json" not in keys(local_aws, bucket)


def test_the_buildspecs_source_has_what_its_command_imports(tmp_path: Path) -> None:
    """CodeBuild sees the asset alone: heavylift/, and what `pip install` of the pins brings."""
    from aws_cdk import IgnoreMode
    from aws_cdk import aws_s3_assets as s3_assets

    from heavylift_cdk.staging import CORE, EXCLUDE, _commands

    app = App(outdir=str(tmp_path), context=FLAGS)
    stack = Stack(app, "staging")
    s3.Bucket(stack, "Bucket")
    s3_assets.Asset(stack, "Code", path=str(CORE), exclude=list(EXCLUDE), ignore_mode=IgnoreMode.DOCKER)
    app.synth()
    (source,) = [folder for folder in tmp_path.glob("asset.*") if (folder / "heavylift").is_dir()]

    found = f"[each for each in sys.path if not each.startswith({str(ROOT)!r}) or '.venv' in each]"
    alone = f"import sys; sys.path = {[str(source), str(source / 'runtime')]!r} + {found}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{alone}; import heavylift.weights.stage as it; print(it.__file__)"],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(source))
    spec = json.loads(_commands())
    for phase in spec["phases"].values():
        for line in phase["commands"]:
            subprocess.run(["bash", "-n", "-c", line], check=True)
