"""A server in a process of its own, and its clients. Not the benchmark: server_overhead.py.

Each client has a connection of its own and asks again when it has its answer, in as little code as HTTP allows: what it
takes itself is counted as the server's. One alone waits in the kernel, several in an event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvloop
from sides.bare_engine import MOST, PROMPTS, Round, Sizes, below, environment, waited

PATIENCE = 60.0
"""Seconds that a server may take to answer what was asked last, and to end."""
COUNTS = re.compile(rb'"completion_tokens": ?(\d+)')
LENGTH = re.compile(rb"content-length: (\d+)")


@contextmanager
def served(
    command: Sequence[str], port: int, log: Path, engine_core: int, server_core: int
) -> Iterator[tuple[int, int]]:
    """The port and the id of a server, its own process on one core and what it starts on the other."""
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said, env=environment()) as process:
        try:
            os.sched_setaffinity(process.pid, {engine_core})  # and so what it starts: the rank counts its cores
            while asyncio.run(fetch(port)) != b"200":
                assert process.poll() is None, log.read_text()[-2000:]
                time.sleep(0.05)
            for task in Path(f"/proc/{process.pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), {server_core})
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()


async def fetch(port: int) -> bytes:
    """The status of /ping; nothing where nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return b""
    writer.write(b"GET /ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    data = await reader.read()
    writer.close()
    return data[9:12]


def asked(openai: bool, turn: int, most: int, stream: bool) -> bytes:
    """A request: LMI's, or OpenAI's where vLLM's own server is to answer it, too."""
    prompt = PROMPTS[turn % len(PROMPTS)]
    if openai:
        body: dict[str, Any] = {"model": "tiny-llama", "prompt": prompt, "max_tokens": most, "temperature": 0}
        body |= {"ignore_eos": True, "stream": stream} | ({"stream_options": {"include_usage": True}} if stream else {})
        return posted(b"/v1/completions", body)
    parameters = {"max_new_tokens": most, "ignore_eos_token": True, "details": True}
    return posted(b"/invocations", {"inputs": prompt, "parameters": parameters, "stream": stream})


def posted(path: bytes, document: Mapping[str, Any]) -> bytes:
    body = json.dumps(document).encode()
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (path, len(body)) + body


def is_whole(data: bytes, stream: bool) -> bool:
    """Whether an answer has come to its end."""
    if stream:
        return data.endswith(b"\r\n0\r\n\r\n")
    head, _, body = data.partition(b"\r\n\r\n")
    found = LENGTH.search(head)
    return found is not None and len(body) == int(found[1])


def note(made: Round, data: bytes, seconds: float) -> None:
    """A whole answer."""
    made.latencies.append(seconds)
    assert data.startswith(b"HTTP/1.1 200 "), data
    counts = COUNTS.findall(data)
    made.tokens += int(counts[-1]) if counts else data.count(b'"token"')


def ask_alone(port: int, requests: Sequence[bytes], stream: bool, until: float, made: Round) -> None:
    """One client, which has no use for an event loop; it asks at least once."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in itertools.cycle(requests):
            began, data = time.perf_counter(), b""
            line.sendall(request)
            while not is_whole(data, stream):
                came = line.recv(2**18)
                assert came, "the server hung up"
                data += came
            note(made, data, time.perf_counter() - began)
            if time.perf_counter() >= until:
                return


class Client(asyncio.Protocol):
    """One of several."""

    def __init__(self, requests: Sequence[bytes], number: int, stream: bool, until: float, made: Round) -> None:
        self.over = asyncio.get_running_loop().create_future()
        self._requests, self._turn, self._stream, self._until, self._made = requests, number, stream, until, made
        self._data, self._began = b"", 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of TCP
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._data += data
        if is_whole(self._data, self._stream):
            note(self._made, self._data, time.perf_counter() - self._began)
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(error or ConnectionError("the server hung up"))

    def _ask(self) -> None:
        self._began, self._data = time.perf_counter(), b""
        if self._began < self._until:
            self._transport.write(self._requests[self._turn % len(self._requests)])
            self._turn += 1
        else:
            self.over.set_result(None)
            self._transport.close()


def cpu_of(process: int) -> float:
    """Seconds of a processor that the process has used, all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load_server(at: tuple[int, int], streams: int, ask: tuple[bool, bool], seconds: float, sizes: Sizes) -> Round:
    """`ask`: whether in OpenAI's words, and whether as a stream."""
    (port, process), (openai, stream) = at, ask
    requests = [asked(openai, turn, most, stream) for turn, most in enumerate(sizes.first(MOST))]

    made, used, start = Round(), cpu_of(process), time.perf_counter()
    late, until = sum(map(waited, below(process))), start + seconds

    async def load() -> None:
        loop = asyncio.get_running_loop()
        clients = [Client(requests, number * 7, stream, until, made) for number in range(streams)]
        for each in clients:
            await loop.create_connection(lambda each=each: each, "127.0.0.1", port)  # type: ignore[misc]
        async with asyncio.timeout(seconds + PATIENCE):
            await asyncio.gather(*(each.over for each in clients))

    if streams == 1:
        ask_alone(port, requests, stream, until, made)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(load())
    made.seconds, made.server_cpu = time.perf_counter() - start, cpu_of(process) - used
    made.waited = sum(map(waited, below(process))) - late
    return made
