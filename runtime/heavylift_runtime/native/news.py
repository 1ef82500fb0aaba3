"""What rank 0 tells the others at the start of a step: who has arrived and who has gone, as JSON, no pickle.

Not their tokens afterwards: every rank comes to the same ones by itself. While something runs, the ranks are in step
and a step without news costs one small exchange; while nothing runs, the others sleep until rank 0 speaks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch

from heavylift_runtime.engines.engine import Sampling
from heavylift_runtime.native.distributed import Group

END = -1


@dataclass(frozen=True)
class Arrival:
    """A request as tokens."""

    key: int
    prompt: tuple[int, ...]
    sampling: Sampling
    seed: int
    said: tuple[int, ...] = ()
    """What was generated before all ranks had to begin again."""


@dataclass(frozen=True)
class News:
    """Since the last step."""

    arrived: tuple[Arrival, ...] = ()
    gone: tuple[int, ...] = ()
    """Keys that are cancelled, or whose text has come to a stop sequence."""


def tell(group: Group, news: News | None, *, busy: bool) -> None:
    """Called on rank 0, once for each step, and with None at the end; `busy`: something runs on every rank."""
    if group.world == 1:
        return
    body = bytearray(b"" if news is None or news == News() else _write(news))
    told = torch.frombuffer(body, dtype=torch.uint8) if body else None
    _header(group, END if news is None else len(body), busy)
    if told is not None:
        group.all_reduce(told)


def hear(group: Group, *, busy: bool) -> News | None:
    """Called on the others; None at the end."""
    size = _header(group, 0, busy)
    if size == END:
        return None
    if not size:
        return News()
    body = bytearray(size)  # zeros, to which rank 0's bytes are added
    group.all_reduce(torch.frombuffer(body, dtype=torch.uint8))
    return _read(body)


def _header(group: Group, size: int, busy: bool) -> int:
    """Rank 0's number: summed up with zeros, which is quick, or broadcast, for which one can wait asleep."""
    header = torch.tensor([size])
    return int(group.all_reduce(header) if busy else group.broadcast(header))


def _write(news: News) -> bytes:
    arrived = [[each.key, each.prompt, each.sampling.to_json(), each.seed, each.said] for each in news.arrived]
    return json.dumps([arrived, news.gone]).encode("ascii")


def _read(body: bytearray) -> News:
    arrived: list[list[Any]]
    arrived, gone = json.loads(body)
    return News(
        tuple(
            Arrival(key, tuple(prompt), Sampling.from_json(how), seed, tuple(said))
            for key, prompt, how, seed, said in arrived
        ),
        tuple(gone),
    )
