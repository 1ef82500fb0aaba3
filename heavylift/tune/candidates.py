"""The ways to serve one model that a tuning tries: the file's own, and a seeded choice of its neighbours.

Not their measuring (halving.py, trial.py).
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
DELAYS_MS = (0, 2, 5, 10, 20, 50)
POWERS = (1, 2, 4, 8)


@dataclass(frozen=True, order=True)
class Candidate:
    """The options that are tried together, by the names that they have in the model file."""

    workers: int
    batch_size: int
    max_batch_delay: int
    job_queue_size: int
    tensor_parallel_degree: int

    @classmethod
    def own(cls, plan: Plan) -> Candidate:
        """What the file asks for now."""
        serving = plan.serving
        return cls(
            serving.workers,
            serving.batch_size,
            serving.max_batch_delay,
            serving.job_queue_size,
            plan.tensor_parallel_degree,
        )

    def of(self, spec: ModelSpec) -> ModelSpec:
        """The file with these options."""
        options = asdict(self)
        degree = options.pop("tensor_parallel_degree")
        serving = spec.serving.model_copy(update=options)
        return spec.model_copy(update={"serving": serving, "tensor_parallel_degree": degree})

    def yaml(self) -> str:
        """The lines to put into the model file."""
        options = asdict(self)
        degree = options.pop("tensor_parallel_degree")
        lines = [f"tensor_parallel_degree: {degree}", "serving:", *(f"  {key}: {options[key]}" for key in options)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def candidates(plan: Plan, *, cores: int, in_flight: int, count: int, seed: int) -> list[Candidate]:
    """The file's own first, then at most `count` - 1 others, the same for the same seed.

    Copies times ranks are at most `cores`, beyond which they only take turns. Of queues, the file's own and one that
    holds twice the `in_flight` prompts are tried: a shorter one refuses, and a longer one changes nothing.
    """
    own = Candidate.own(plan)
    queues = sorted({own.job_queue_size, max(2 * in_flight, 1)})
    grid = [
        Candidate(workers, batch, delay, queue, degree)
        for workers, degree in itertools.product(POWERS, POWERS)
        if workers * degree <= max(cores, own.workers * own.tensor_parallel_degree)
        for batch, delay, queue in itertools.product(BATCH_SIZES, DELAYS_MS, queues)
        if batch <= max(in_flight, own.batch_size) and (batch > 1 or delay == 0)  # one row waits for nobody
    ]
    others = [candidate for candidate in grid if candidate != own]
    Random(f"tune/{plan.name}/{seed}").shuffle(others)
    return [own, *others[: count - 1]]
