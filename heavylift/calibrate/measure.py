"""Measures a model's batches on this machine: several degrees, batch sizes, prompt and answer lengths.

Not the fit. Each batch is sent several times and its fastest reply kept, so that what else the machine does counts
least. Batches of the sizes in HELD_OUT are measured like the others, and the fit never sees them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from heavylift.benchmark.client import HttpClient
from heavylift.benchmark.workload import Workload
from heavylift.calibrate.observation import Observation
from heavylift.calibrate.served import Served, serving
from heavylift.errors import HeavyliftError
from heavylift.plan.plan import Plan
from heavylift.serving.render import render_properties

BATCHES = (1, 2, 4, 8, 16)
HELD_OUT = (2, 8)
DEGREES = (1, 2, 4, 8)
LENGTHS = (1, 8, 48)
"""Most new tokens of a request."""
REPEATED = (1, 6)
"""How often an example's text stands in a prompt: short ones, and long ones."""
ROUNDS, LEAST_ROUNDS, SECONDS = 20, 3, 30.0
"""Rounds over all batches of a degree: at most, at least, and how long new ones begin."""
WORKLOAD, SEED = "four-tasks", 11
PER_CORE = 2  # hardware threads
SMALL = 64e6  # bytes of weights on a rank, below which the native engine uses one thread


@dataclass(frozen=True)
class Peak:
    """The most memory that was resident: of the server, and of its ranks, in bytes; so far, at this batch."""

    degree: int
    batch: int
    server: int
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Measured:
    """All that was seen: batches, and the memory after each size of them, in ascending order."""

    observations: tuple[Observation, ...]
    peaks: tuple[Peak, ...]


def measure(plan: Plan, weights: Path, degrees: Sequence[int], say: Callable[[str], None]) -> Measured:
    """`weights`: the model's folder. Raises HeavyliftError where the runtime does not start or answer."""
    observations: list[Observation] = []
    peaks: list[Peak] = []
    for degree in degrees:
        say(f"degree {degree}: starting")
        with serving(_properties(plan, weights, degree)) as served:
            client = HttpClient(served.url)
            _warm(client)
            best: dict[bytes, Observation] = {}
            cores = cores_of(plan, degree, len(os.sched_getaffinity(0)))
            until = time.monotonic() + SECONDS
            for turn in range(ROUNDS):
                if turn >= LEAST_ROUNDS and time.monotonic() > until:
                    break
                for batch in BATCHES:
                    for body in _kinds(batch):
                        seen = _send(client, body, batch, degree, cores)
                        best[body] = min(best.get(body, seen), seen, key=lambda each: each.seconds)
                    if turn == 0:
                        server, ranks = served.peaks()
                        peaks.append(Peak(degree, batch, server, tuple(ranks)))
            observations += best.values()
            say(f"degree {degree}: {len(observations)} batches, peak {_total(served) / 2**20:.0f} MiB")
    return Measured(tuple(observations), tuple(peaks))


def held_out(observation: Observation) -> bool:
    """The fit must not see it."""
    return len(observation.prompts) in HELD_OUT


def cores_of(plan: Plan, degree: int, threads: int) -> float:
    """Physical cores of a rank on a machine with so many hardware threads: one, where the model is small."""
    share = threads / PER_CORE / degree
    return min(1.0, share) if plan.model.weights_bytes / degree < SMALL else share


def _properties(plan: Plan, weights: Path, degree: int) -> str:
    changed = {
        "option.tensor_parallel_degree": str(degree),
        "option.model_id": str(weights),
        "batch_size": str(max(BATCHES)),
        "max_batch_delay": "0",
        "minWorkers": "1",
        "maxWorkers": "1",
    }
    return render_properties({**dict(plan.properties), **changed}.items())


def _warm(client: HttpClient) -> None:
    for body in islice(_bodies(max(BATCHES), 16, 1), 4):
        client.invoke(body)


def _kinds(batch: int) -> list[bytes]:
    """Every length, with short prompts and with long ones."""
    return [next(_bodies(batch, length, times)) for length in LENGTHS for times in REPEATED]


def _send(client: HttpClient, body: bytes, batch: int, degree: int, cores: float) -> Observation:
    started = time.perf_counter()
    reply = client.invoke(body)
    seconds = time.perf_counter() - started
    return Observation(degree, cores, *_counts(reply, batch), seconds)


def _bodies(batch: int, length: int, times: int) -> Iterator[bytes]:
    for examples in Workload.load(WORKLOAD).batches(batch, seed=SEED):
        inputs = [" ".join([example.input] * times) for example in examples]
        yield json.dumps({"inputs": inputs, "parameters": {"max_new_tokens": length, "details": True}}).encode()


def _counts(reply: bytes, batch: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    try:
        details = json.loads(reply)["details"]
        prompts, answers = (tuple(int(row[key]) for row in details) for key in ("prompt_tokens", "generated_tokens"))
    except (ValueError, KeyError, TypeError) as error:
        raise HeavyliftError(f"the runtime's reply has no token counts: {error}") from error
    if len(prompts) != batch:
        raise HeavyliftError(f"the runtime answered {len(prompts)} of {batch} prompts")
    return prompts, answers


def _total(served: Served) -> int:
    server, ranks = served.peaks()
    return server + sum(ranks)
