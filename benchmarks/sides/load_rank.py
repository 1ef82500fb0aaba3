"""One rank that loads: `python load_rank.py SIDE PLACE RANK WORLD RENDEZVOUS`, told when by a line on its input.

Not the measurement (load.py). Prints `ready`, then seconds, bytes of weights that it holds, peak memory, bytes read
and seconds of a processor.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import torch

Load = Callable[[], int]
PATIENCE = 60
"""Seconds that `plain` waits for a server that says nothing."""


def counter(field: str, file: str) -> int:
    """A number of this process in /proc: bytes (of `status`, which counts in KiB)."""
    with open(f"/proc/self/{file}", encoding="ascii") as lines:
        value = next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
    return value * 1024 if file == "status" else value


def heavylift(place: str, rank: int, world: int, rendezvous: str) -> Load:
    from heavylift_runtime.native.checkpoint import Checkpoint
    from heavylift_runtime.native.loader import Loader
    from heavylift_runtime.native.shared_memory import join
    from heavylift_runtime.native.sources import source_of

    source = source_of(place, Path())
    group = join(rank, world, rendezvous)

    def load() -> int:
        checkpoint = Checkpoint.open(source, rank, world)
        with torch.inference_mode(), Loader(checkpoint, rank, world, torch.float32, group=group) as loader:
            names = [weight.name for weight in checkpoint.agree() if checkpoint.find(weight) is not None]
            held = [loader.take(name) for name in names]
        return sum(tensor.nbytes for tensor in held)

    return load


def transformers(place: str, *_: object) -> Load:
    from transformers import T5ForConditionalGeneration
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()

    def load() -> int:
        model = T5ForConditionalGeneration.from_pretrained(place, dtype=torch.float32)
        return sum(bool(each.sum().isfinite()) * each.nbytes for each in model.parameters())  # it is mapped: read it

    return load


def runai(place: str, *_: object) -> Load:
    from runai_model_streamer import SafetensorsStreamer

    def load() -> int:
        with SafetensorsStreamer() as streamer:
            streamer.stream_file(f"{place}model.safetensors")
            held = [tensor.clone() for _, tensor in streamer.get_tensors()]  # its buffer is used again
        return sum(tensor.nbytes for tensor in held)

    return load


def plain(place: str, rank: int, world: int, *_: object) -> Load:
    """No loader: the rank's share of the file's bytes by sockets alone: what this server and machine give."""
    from heavylift_runtime.native.heap import Region

    block, readers = 8 * 1024 * 1024, 4
    server = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    assert server.hostname is not None
    host, port, path = server.hostname, server.port, f"/{place.removeprefix('s3://')}model.safetensors"
    connect = http.client.HTTPSConnection if server.scheme == "https" else http.client.HTTPConnection

    def size_of() -> int:
        connection = connect(host, port, timeout=PATIENCE)
        connection.request("HEAD", path)
        reply = connection.getresponse()
        connection.close()
        assert reply.status == 200, f"{path}: {reply.status} {reply.reason}"
        return int(reply.headers["Content-Length"])

    def read(memory: memoryview, first: int, places: range) -> None:
        with socket.create_connection((host, port), timeout=PATIENCE) as line:
            line.settimeout(None)  # Python's own would take MSG_WAITALL away: the kernel's does not
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", PATIENCE, 0))
            for start in places:
                left = memory[start : start + block]
                span = f"bytes={first + start}-{first + start + len(left) - 1}"
                line.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nRange: {span}\r\n\r\n".encode())
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    seen = line.recv(4096, socket.MSG_PEEK)
                    end = (head + seen).find(b"\r\n\r\n")
                    head += line.recv(len(seen) if end < 0 else end + 4 - len(head))
                    assert seen, f"{path}: the server closed the connection in a reply's head"
                assert head.startswith(b"HTTP/1.1 206 "), head.partition(b"\r\n")[0]
                while left:
                    count = line.recv_into(left, len(left), socket.MSG_WAITALL)
                    assert count, f"{path}: the server closed the connection {len(left)} bytes too early"
                    left = left[count:]

    def read_secure(memory: memoryview, first: int, places: range) -> None:
        connection = connect(host, port, timeout=PATIENCE)
        for start in places:
            left = memory[start : start + block]
            connection.request("GET", path, headers={"Range": f"bytes={first + start}-{first + start + len(left) - 1}"})
            reply = connection.getresponse()
            assert reply.status == 206, f"{path}: {reply.status} {reply.reason}"
            while left:
                count = reply.readinto(left)
                assert count, f"{path}: the server closed the connection {len(left)} bytes too early"
                left = left[count:]
        connection.close()

    def load() -> int:
        size = size_of()
        first, last = size * rank // world, size * (rank + 1) // world
        memory = Region(last - first, ahead=False).room(last - first, torch.uint8)
        view = memoryview(memory.numpy())  # type: ignore[arg-type]  # an array has a buffer since 3.12 only
        with ThreadPoolExecutor(readers) as pool:
            shares = [range(each * block, last - first, readers * block) for each in range(readers)]
            kind = read_secure if server.scheme == "https" else read
            list(pool.map(lambda places: kind(view, first, places), shares))
        return memory.nbytes

    return load


SIDES: dict[str, Callable[..., Load]] = {
    "heavylift": heavylift, "transformers": transformers, "runai": runai, "plain": plain,
}  # fmt: skip


def main(side: str, place: str, rank: int, world: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    load = SIDES[side](place, rank, world, rendezvous)
    torch.ones(1 << 20).bfloat16().sum().item()  # what torch sets up once
    before, read = counter("VmRSS", "status"), counter("rchar", "io")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): the peak begins anew
    print("ready", flush=True)
    sys.stdin.readline()
    started, worked = time.monotonic(), time.process_time()
    held = load()
    seconds, worked = time.monotonic() - started, time.process_time() - worked
    peak, asked = counter("VmHWM", "status") - before, counter("rchar", "io") - read
    print(json.dumps({"seconds": seconds, "weights": held, "peak": peak, "asked": asked, "worked": worked}), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
