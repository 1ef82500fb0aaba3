"""The engine without a server: in a process of its own, asked over lines of JSON. Not a benchmark: server_overhead.py.

As many clients as are asked for, each of which has its next request there as soon as its last one is answered; so does
a server's client, at best. Runs on any interpreter that the engine runs on, and so imports nothing else.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MOST = 4096
"""Turns until the lengths of answers come round again."""
PROMPTS = [f"write in words: {number}" for number in range(100, 900, 7)]


@dataclass
class Round:
    """One side's seconds for each request, and its tokens per second."""

    latencies: list[float] = field(default_factory=list)
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
    """The engine in a process of its own, driven by lines of JSON: [streams, seconds, mean, spread] → a round."""

    def __init__(self, python: str, folder: Path, core: int) -> None:
        self._process = subprocess.Popen(
            [python, __file__, str(folder), str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def run(self, streams: int, seconds: float, sizes: Sizes) -> Round:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([streams, seconds, sizes.mean, sizes.spread]), file=self._process.stdin, flush=True)
        while not (line := self._process.stdout.readline()).startswith("{"):
            assert line, "the bare engine has ended"  # vLLM writes its log there, too
        return Round(**json.loads(line))

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self._process.kill()
        self._process.stdout.close()


def environment() -> dict[str, str]:
    """One thread, our runtime on the path, and vLLM left to the core that it is put on."""
    own = {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    return {**os.environ, **own, "PYTHONPATH": str(ROOT / "runtime")}


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


def serve(folder: Path, core: int) -> None:
    """Be the process of Bare."""
    os.sched_setaffinity(0, {core})
    from heavylift_runtime.engines.engine import Request, Sampling
    from heavylift_runtime.engines.registry import ENGINES
    from heavylift_runtime.garbage import settle
    from heavylift_runtime.options import Options

    options = Options.load(folder, {})
    engine = importlib.import_module(ENGINES[options.engine].module).load(options, folder, 0, 1, "")
    settle()  # as every rank does
    for line in sys.stdin:
        streams, seconds, mean, spread = json.loads(line)
        sizes = Sizes(mean, spread).first(MOST)
        made, began, key = Round(), dict[int, float](), 0
        late, start = waited(os.getpid()), time.perf_counter()
        now = start
        while now - start < seconds or began:
            while len(began) < streams and now - start < seconds:
                began[key] = time.perf_counter()
                engine.add(key, Request(PROMPTS[key % len(PROMPTS)], Sampling(sizes[key % MOST], ignore_eos=True)))
                key += 1
            for piece in engine.step():
                assert piece.error is None, piece.error
                if piece.last:
                    made.tokens += piece.generated_tokens
                    made.latencies.append(time.perf_counter() - began.pop(piece.key))
            now = time.perf_counter()
        made.seconds, made.waited = now - start, waited(os.getpid()) - late
        print(json.dumps(vars(made)), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
