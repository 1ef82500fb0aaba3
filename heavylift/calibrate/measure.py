"""Measures a model's batches on this machine: several degrees, batch sizes, prompt and answer lengths.

Not the fit. Each batch is sent several times and its fastest reply kept, so that what else the machine does counts
least. Batches of the sizes in HELD_OUT are measured like the others, and the fit never sees them.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from statistics import median

from heavylift.benchmark.client import HttpClient, InvocationFailed
from heavylift.benchmark.workload import Workload
from heavylift.calibrate.machine import threads_per_core
from heavylift.calibrate.observation import Observation
from heavylift.calibrate.served import serving
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
ROUNDS, LEAST_ROUNDS, SECONDS = 30, 3, 60.0
"""Rounds over all batches: at most, at least, and how long new ones begin."""
WORKLOAD, SEED = "four-tasks", 11
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
    """All that was seen: batches, and the memory after each size of them, in ascending order. `noise`: how much longer
    than its fastest reply a batch usually took; 1 on a machine that does nothing else."""

    observations: tuple[Observation, ...]
    peaks: tuple[Peak, ...]
    noise: float


def measure(plan: Plan, weights: Path, degrees: Sequence[int], say: Callable[[str], None]) -> Measured:
    """`weights`: the model's folder. Raises HeavyliftError where a runtime does not start or answer.

    One server for each degree; they take turns, so that whatever changes on the machine changes for all of them.
    """
    seen: dict[tuple[int, bytes], list[Observation]] = defaultdict(list)
    peaks: list[Peak] = []
    kinds = {batch: _kinds(batch) for batch in BATCHES}
    with ExitStack() as stack:
        servers = {degree: stack.enter_context(serving(_properties(plan, weights, degree))) for degree in degrees}
        clients = {degree: stack.enter_context(HttpClient(served.url)) for degree, served in servers.items()}
        say(f"runtimes over {' and '.join(map(str, degrees))} ranks are up")
        for client in clients.values():
            _warm(client)
        until = time.monotonic() + SECONDS
        for turn in range(ROUNDS):
            if turn >= LEAST_ROUNDS and time.monotonic() > until:
                break
            for batch, degree in product(BATCHES, degrees):
                cores = cores_of(plan, degree, len(os.sched_getaffinity(0)) / threads_per_core())
                for body in kinds[batch]:
                    seen[degree, body].append(_send(clients[degree], body, batch, degree, cores))
                if turn == 0:
                    server, ranks = servers[degree].peaks()
                    peaks.append(Peak(degree, batch, server, tuple(ranks)))
        say(f"{len(seen)} kinds of batches, {sum(map(len, seen.values()))} replies")
    fastest = [min(each, key=lambda one: one.seconds) for each in seen.values()]
    ratios = [median(one.seconds for one in each) / min(one.seconds for one in each) for each in seen.values()]
    return Measured(tuple(fastest), tuple(peaks), round(median(ratios), 3))


def held_out(observation: Observation) -> bool:
    """The fit must not see it."""
    return len(observation.prompts) in HELD_OUT


def cores_of(plan: Plan, degree: int, cores: float) -> float:
    """Physical cores of a rank on a machine that has so many: one, where the model is small."""
    share = cores / degree
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
    """One batch. Raises HeavyliftError where the runtime does not answer it."""
    started = time.perf_counter()
    try:
        reply = client.invoke(body)
    except InvocationFailed as failure:
        raise HeavyliftError(f"the runtime did not answer: {failure}") from failure
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
