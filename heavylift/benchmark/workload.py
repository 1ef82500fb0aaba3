"""The prompts of a benchmark and their exact answers, dealt into batches of mixed tasks.

Not when they are sent (schedule.py), nor how prompts of given lengths are made (synthetic.py).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from heavylift.benchmark import shape
from heavylift.benchmark.shape import Field, FormatError
from heavylift.benchmark.synthetic import made_up, synthetic_lines

FOLDER = Path(__file__).parent / "workloads"
FIELDS = {"task": Field(str), "input": Field(str)}
ARRIVAL = {"arrival_s": Field(float, least=0, most=86_400)}
OPTIONAL = {"answer": Field(str), "new_tokens": Field(int, least=1, most=1024), **ARRIVAL}
# A line of a trace that tells lengths alone; the same that `heavylift plan --simulate` reads.
TRACED = {**ARRIVAL, "input_tokens": Field(int, least=1, most=100_000), "output_tokens": Field(int, least=1, most=1024)}
MOST_DATASET, MOST_UNPACKED = 65_536, 8 * 1024 * 1024  # a custom resource's properties travel in one event
DATASET_FIELDS = {
    "name": Field(str, pattern=r"[\w./-]{1,255}"),
    "sha256": Field(str, pattern=r"[0-9a-f]{64}"),
    "gzip_base64": Field(str),
}


@dataclass(frozen=True)
class Example:
    """One prompt, the task it is of, the only answer that is right (None: there is none), the most tokens to
    generate (None: the benchmark's own number), its number in the workload, and when a trace had it, in seconds."""

    task: str
    input: str
    answer: str | None
    new_tokens: int | None = None
    number: int = 0
    arrival_s: float | None = None


@dataclass(frozen=True)
class Workload:
    """Named examples; `digest` is the SHA-256 of the file they were read from."""

    name: str
    digest: str
    examples: tuple[Example, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """In order of first appearance."""
        return tuple(dict.fromkeys(example.task for example in self.examples))

    @classmethod
    def load(cls, named: str | dict[str, Any], seed: int = 0) -> Workload:
        """By the name of one of this package's workloads, or from a benchmark's own `dataset` or `synthetic` prompts.

        Raises FormatError for an unknown name, and for a bad line.
        """
        if isinstance(named, dict):
            return cls._own(named, seed)
        files = {path.stem: path for path in sorted(FOLDER.glob("*.jsonl"))}
        if named not in files:
            raise FormatError([f"the workload is {named!r}; known: {', '.join(files)}"])
        return cls.parse(named, files[named].read_bytes())

    @classmethod
    def _own(cls, document: dict[str, Any], seed: int) -> Workload:
        kinds = ("dataset", "synthetic")
        if len(document) != 1 or next(iter(document)) not in kinds:
            raise FormatError([f"the workload has the keys {sorted(document)}; it must have one of {', '.join(kinds)}"])
        if "synthetic" in document:
            return cls.parse("synthetic", synthetic_lines(document["synthetic"], seed))
        dataset = document["dataset"]
        if found := shape.faults(dataset, DATASET_FIELDS, "workload.dataset"):
            raise FormatError(found)
        lines = unpacked(dataset["gzip_base64"])
        if hashlib.sha256(lines).hexdigest() != dataset["sha256"]:
            raise FormatError([f"the dataset {dataset['name']} is not what its sha256 says"])
        return cls.parse(dataset["name"], lines)

    @classmethod
    def parse(cls, name: str, lines: bytes) -> Workload:
        """From UTF-8 JSON lines of `{"task", "input", "answer", "new_tokens", "arrival_s"}`, the last three optional;
        or of a trace's `{"arrival_s", "input_tokens", "output_tokens"}`, whose prompts are made up: as many words."""
        found, examples = [], []
        for number, line in enumerate(lines.splitlines(), start=1):
            try:
                document = json.loads(line)
            except ValueError as error:
                found.append(f"{name} line {number} is not JSON: {error}")
                continue
            traced = isinstance(document, dict) and "input_tokens" in document
            kinds = (TRACED, {}) if traced else (FIELDS, OPTIONAL)
            if bad := shape.faults(document, kinds[0], f"{name} line {number}", kinds[1]):
                found += bad
            elif traced:
                text = made_up(document["input_tokens"], f"{name}/{number}")
                whole = {"task": "trace", "input": text, "new_tokens": document["output_tokens"]}
                examples.append(Example(answer=None, number=number, arrival_s=document["arrival_s"], **whole))
            else:
                examples.append(Example(**{"answer": None, **document}, number=number))
        if not examples:
            found.append(f"the workload {name!r} has no examples")
        if found:
            raise FormatError(found)
        return cls(name, hashlib.sha256(lines).hexdigest(), tuple(examples))

    def batches(self, size: int, *, seed: int | str, last_first: bool = False) -> Iterator[tuple[Example, ...]]:
        """Endless batches of `size` examples. Tasks take turns, also across batches; each task's examples come in a
        seeded order, all of them before any comes again; `last_first`: in the opposite order."""
        tasks = itertools.cycle([self._deal(task, seed, last_first) for task in self.tasks])
        while True:
            yield tuple(next(next(tasks)) for _ in range(size))

    @property
    def times_s(self) -> tuple[float, ...]:
        """A trace's arrivals in order, from 0. Raises FormatError where a line tells no time, or all the same."""
        times = sorted(each.arrival_s for each in self.examples if each.arrival_s is not None)
        if len(times) < len(self.examples) or times[0] == times[-1]:
            raise FormatError([f"{self.name} is no trace: each line needs its 'arrival_s', and not all the same"])
        return tuple(time - times[0] for time in times)

    def in_order(self) -> Iterator[tuple[Example, ...]]:
        """Endless: a trace's prompts one by one, as they arrived."""
        return itertools.cycle((each,) for each in sorted(self.examples, key=lambda each: each.arrival_s or 0.0))

    def _deal(self, task: str, seed: int | str, last_first: bool) -> Iterator[Example]:
        rng = Random(f"{self.name}/{task}/{seed}")
        deck = [example for example in self.examples if example.task == task]
        while True:
            rng.shuffle(deck)
            yield from reversed(deck) if last_first else deck


def packed(name: str, lines: bytes) -> dict[str, Any]:
    """A benchmark's `workload` that carries these JSON lines itself. Raises FormatError for bad lines, or too many."""
    Workload.parse(name, lines)
    text = base64.b64encode(gzip.compress(lines, 9, mtime=0)).decode()
    if len(text) > MOST_DATASET or len(lines) > MOST_UNPACKED:
        message = f"{name} takes {len(text)} bytes compressed; at most {MOST_DATASET}: take fewer of its lines"
        raise FormatError([message])
    return {"dataset": {"name": name, "sha256": hashlib.sha256(lines).hexdigest(), "gzip_base64": text}}


def unpacked(text: str) -> bytes:
    """The JSON lines of a dataset. Raises FormatError for what is no such text, or grows beyond 8 MiB."""
    try:
        packer = zlib.decompressobj(wbits=31)
        lines = packer.decompress(base64.b64decode(text, validate=True), MOST_UNPACKED)
    except (ValueError, zlib.error) as error:
        raise FormatError([f"the dataset is not gzip in base64: {error}"]) from None
    if packer.unconsumed_tail or not packer.eof:
        raise FormatError([f"the dataset is longer than {MOST_UNPACKED} bytes, or cut short"])
    return lines
