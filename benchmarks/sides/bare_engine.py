"""The engine without a server, in the very process that serves it. Not a benchmark: server_overhead.py.

Two processes of the same engine are not alike: where the kernel and the machine's host have laid their memory stays as
it is for their lives, and of a model that is read anew at each token that was a third of the time, once in one
direction and once in the other. So a server's rank is this script, and while the server has nothing for it, it answers
the benchmark: as many clients as are asked for, each of which has its next request there as soon as its last one is
answered, or, of one client, after pauses that it is told: those that the server's client leaves, which this script
sees, as it sees how long the engine has each request. In a pause an engine gets colder, for what it needs leaves caches
that others use, too. Runs on any interpreter that the engine runs on.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
MOST = 4096
"""Turns until the lengths of answers come round again."""
PROMPTS = [f"write in words: {number}" for number in range(100, 900, 7)]


@dataclass
class Seen:
    """A server's requests in the order of their ends: how long the engine had each, and its pauses between two of them
    in which it had none; in seconds."""

    had: list[float] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)


@dataclass
class Round:
    """One side's seconds for each request, and its tokens per second."""

    latencies: list[float] = field(default_factory=list)
    seen: Seen | None = None  # of a server's: the same requests as its engine had them
    tokens: int = 0
    seconds: float = 0.0
    server_cpu: float = 0.0  # seconds of the server's own process
    waited: float = 0.0  # seconds for which the engine could have run and another process did

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Sizes:
    """How many new tokens the request of a turn asks for: `mean`, or drawn from `mean - spread` to `mean + spread`.

    Drawn, for lengths that come round again in a few dozen turns make the same passes again, which the engine has kept;
    but only where no server's delays come between.
    """

    mean: int
    spread: int

    def first(self, count: int) -> list[int]:
        """Of so many turns, the same at every call."""
        draw = random.Random(7)
        return [draw.randint(self.mean - self.spread, self.mean + self.spread) for _ in range(count)]


class Bare:
    """The benchmark's end of the socket: lines of JSON, [streams, seconds, mean, spread, pauses] → a round, with null
    for pauses one of relayed.py; null → what was seen of the server's requests since the last time."""

    def __init__(self, path: Path) -> None:
        self._path, self._listener = path, socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()

    def rank(self, python: str) -> Path:
        """A program for `option.pythonExecutable`: this script as the rank of a server."""
        program = self._path.with_suffix(".sh")
        program.write_text(f'#!/bin/sh\nexec "{python}" "{__file__}" "{self._path}" "$@"\n')
        program.chmod(0o755)
        return program

    def meet(self) -> None:
        """Once the server is ready, its rank is at the other end."""
        self._asked = self._listener.accept()[0]
        self._lines = self._asked.makefile("rw")

    def run(self, streams: int, seconds: float, sizes: Sizes, pauses: Sequence[float] = ()) -> Round:
        """`pauses`: of one client, taken in turn."""
        return Round(**self._ask([streams, seconds, sizes.mean, sizes.spread, list(pauses)]))

    def relayed(self, streams: int, seconds: float, sizes: Sizes) -> Round:
        """Of several clients; without latencies."""
        return Round(**self._ask([streams, seconds, sizes.mean, sizes.spread, None]))

    def seen(self) -> Seen:
        """Of the server's requests, once all are answered."""
        return Seen(**self._ask(None))

    def _ask(self, asked: list[Any] | None) -> Any:
        print(json.dumps(asked), file=self._lines, flush=True)
        line = self._lines.readline()
        assert line, "the engine has ended"
        return json.loads(line)

    def close(self) -> None:
        for each in (self._lines, self._asked, self._listener):
            each.close()


def environment() -> dict[str, str]:
    """One thread, our runtime and these sides on the path, and vLLM left to the core that it is put on."""
    own = {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    return {**os.environ, **own, "PYTHONPATH": f"{ROOT / 'runtime'}:{ROOT / 'benchmarks'}"}


def waited(process: int) -> float:
    """Seconds for which its threads could have run and others did (proc(5), /proc/pid/schedstat)."""
    nanoseconds = 0
    for task in Path(f"/proc/{process}/task").iterdir():
        with suppress(OSError):  # it has just ended
            nanoseconds += int((task / "schedstat").read_text().split()[1])
    return nanoseconds / 1e9


def below(process: int) -> Iterator[int]:
    """The processes that it has started, and those that these have."""
    for task in Path(f"/proc/{process}/task").iterdir():
        with suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from below(child)


def play(
    engine: Any, streams: int, seconds: float, sizes: Sizes, rest: Callable[[int], None] = lambda turn: None
) -> Round:
    """One round. `rest`: what one client does before each of its requests but the first."""
    from heavylift_runtime.engines.engine import Request, Sampling

    lengths, made, began, key = sizes.first(MOST), Round(), dict[int, float](), 0
    late, start = waited(os.getpid()), time.perf_counter()
    now = start
    while now - start < seconds or began:
        while len(began) < streams and now - start < seconds:
            if streams == 1 and key:
                rest(key)
            began[key] = time.perf_counter()
            engine.add(key, Request(PROMPTS[key % len(PROMPTS)], Sampling(lengths[key % MOST], ignore_eos=True)))
            key += 1
        for piece in engine.step():
            assert piece.error is None, piece.error
            if piece.last:
                made.tokens += piece.generated_tokens
                made.latencies.append(time.perf_counter() - began.pop(piece.key))
        now = time.perf_counter()
    made.seconds, made.waited = now - start, waited(os.getpid()) - late
    return made


def relayed(engine: Any, streams: int, seconds: float, sizes: Sizes) -> Round:
    """One round of the rank's own loop."""
    from sides.relayed import Relay

    from heavylift_runtime.engines.engine import Request, Sampling
    from heavylift_runtime.steps import roll

    asked = zip(itertools.cycle(PROMPTS), itertools.cycle(sizes.first(MOST)))
    requests = (Request(prompt, Sampling(length, ignore_eos=True)) for prompt, length in asked)
    late = waited(os.getpid())
    with closing(Relay(streams, seconds, requests)) as relay:
        roll(engine, relay)  # type: ignore[arg-type]  # as a channel
    return Round(tokens=relay.tokens, seconds=relay.seconds, waited=waited(os.getpid()) - late)


class Watched:
    """An engine, as a rank's loop uses it (steps.py), and when it had which request."""

    def __init__(self, engine: Any) -> None:
        self.seen = Seen()
        self._add, self._step = engine.add, engine.step
        self._began: dict[int, float] = {}
        self._ended = 0.0
        engine.add, engine.step = self.add, self.step

    def add(self, key: int, request: Any) -> None:
        now = time.perf_counter()
        if not self._began and self._ended:
            self.seen.pauses.append(now - self._ended)
        self._began[key] = now
        self._add(key, request)

    def step(self) -> Any:
        pieces = self._step()
        for piece in pieces:
            if piece.last and piece.key in self._began:
                self._ended = time.perf_counter()
                self.seen.had.append(self._ended - self._began.pop(piece.key))
        return pieces

    def take(self) -> Seen:
        """What was seen since the last time; the pause until the next request is nobody's."""
        seen, self.seen, self._ended = self.seen, Seen(), 0.0
        return seen

    @contextmanager
    def unwatched(self) -> Iterator[Any]:
        """The engine itself."""
        engine = self._add.__self__
        engine.add, engine.step = self._add, self._step
        try:
            yield engine
        finally:
            engine.add, engine.step = self.add, self.step


class Turns:
    """A rank's channel, beside which the benchmark asks while the server has nothing for it."""

    def __init__(self, channel: Any, engine: Any, path: str) -> None:
        self.poll, self.send = channel.poll, channel.send
        self._channel, self._watched = channel, Watched(engine)
        self._asked = socket.socket(socket.AF_UNIX)
        self._asked.connect(path)
        self._lines = self._asked.makefile("rw")

    def receive(self) -> Any:
        """The server's next message."""
        either = select.poll()
        for each in (self._channel._connection, self._asked):
            either.register(each, select.POLLIN)
        while (message := self._channel.poll()) is None:
            if any(descriptor == self._asked.fileno() for descriptor, _ in either.poll()):
                if not (line := self._lines.readline()):
                    return self._channel.receive()  # the benchmark is over
                print(json.dumps(asdict(self._answer(json.loads(line)))), file=self._lines, flush=True)
        return message

    def _answer(self, asked: list[Any] | None) -> Seen | Round:
        if asked is None:
            return self._watched.take()
        streams, seconds, mean, spread, pauses = asked
        sizes = Sizes(mean, spread)
        with self._watched.unwatched() as engine:
            if pauses is None:
                return relayed(engine, streams, seconds, sizes)
            return play(
                engine, streams, seconds, sizes, lambda turn: self._rest(pauses[turn % len(pauses)] if pauses else 0.0)
            )

    def _rest(self, seconds: float) -> None:
        """As a rank that has nothing to do (steps.py)."""
        from heavylift_runtime.steps import lingers

        now = time.monotonic()
        until, looks = now + seconds, now + min(seconds, lingers())
        while time.monotonic() < looks:
            assert self._channel.poll() is None, "the server has something to say"
        while (left := until - time.monotonic()) > 0:
            time.sleep(left)


def main() -> int:
    """Be a rank: `… PATH -P -m heavylift_runtime worker --channel DESCRIPTOR`."""
    from heavylift_runtime import worker

    loop, path = worker.roll, sys.argv[1]
    worker.roll = lambda engine, channel: loop(engine, Turns(channel, engine, path))  # type: ignore[arg-type]
    return worker.run(int(sys.argv[-1]))


if __name__ == "__main__":
    sys.exit(main())
