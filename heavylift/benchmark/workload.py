"""The prompts of a benchmark and their exact answers, dealt into batches of mixed tasks.

Not when they are sent (schedule.py).
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from heavylift.benchmark import shape
from heavylift.benchmark.shape import Field, FormatError

FOLDER = Path(__file__).parent / "workloads"
FIELDS = {"task": Field(str), "input": Field(str), "answer": Field(str)}


@dataclass(frozen=True)
class Example:
    """One prompt, the task it is of, and the only answer that is right."""

    task: str
    input: str
    answer: str


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
    def load(cls, name: str) -> Workload:
        """Raises FormatError for a name that is not among the workloads of this package, or a file with a bad line."""
        files = {path.stem: path for path in sorted(FOLDER.glob("*.jsonl"))}
        if name not in files:
            raise FormatError([f"the workload is {name!r}; known: {', '.join(files)}"])
        return cls.parse(name, files[name].read_bytes())

    @classmethod
    def parse(cls, name: str, lines: bytes) -> Workload:
        """From UTF-8 JSON lines of `{"task", "input", "answer"}`."""
        found, examples = [], []
        for number, line in enumerate(lines.splitlines(), start=1):
            try:
                document = json.loads(line)
            except ValueError as error:
                found.append(f"{name} line {number} is not JSON: {error}")
                continue
            if bad := shape.faults(document, FIELDS, f"{name} line {number}"):
                found += bad
            else:
                examples.append(Example(**document))
        if not examples:
            found.append(f"the workload {name!r} has no examples")
        if found:
            raise FormatError(found)
        return cls(name, hashlib.sha256(lines).hexdigest(), tuple(examples))

    def batches(self, size: int, *, seed: int) -> Iterator[tuple[Example, ...]]:
        """Endless batches of `size` examples. Tasks take turns, also across batches; each task's examples come in a
        seeded order, all of them before any comes again."""
        tasks = itertools.cycle([self._deal(task, seed) for task in self.tasks])
        while True:
            yield tuple(next(next(tasks)) for _ in range(size))

    def _deal(self, task: str, seed: int) -> Iterator[Example]:
        rng = Random(f"{self.name}/{task}/{seed}")
        deck = [example for example in self.examples if example.task == task]
        while True:
            rng.shuffle(deck)
            yield from deck
