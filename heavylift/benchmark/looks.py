"""How many requests a verdict needs, and at which counts a run looks at it: decided before the first is sent.

Not the judging (verdict.py). Each look may err, so the error that a target allows (1 - confidence) is divided among
them beforehand: alpha spending, by the union bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from heavylift.benchmark.binomial import least_requests
from heavylift.benchmark.rates import RATES, least_answers
from heavylift.benchmark.slo import INVARIANCES, Slo

FEWEST_AUTO = 30
PASSES = 3  # looks that may pass: at n, 2n and 4n requests
FIRST_FAIL = 10
Looks = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Plan:
    """`requests` are enough for a good endpoint; up to `most_requests` are sent while it is undecided. `pass_looks` and
    `fail_looks` are (measured requests, share of the error that may be spent), ascending; shares sum to 1."""

    requests: int
    most_requests: int
    pass_looks: Looks
    fail_looks: Looks

    def pass_share(self, requests: int) -> float:
        """The share for a decision after so many requests: that of the next look, also where time cut it short."""
        return _share(self.pass_looks, requests)

    def fail_share(self, requests: int) -> float:
        return _share(self.fail_looks, requests)

    @property
    def counts(self) -> tuple[int, ...]:
        """All counts of measured requests at which there is a look."""
        return tuple(sorted({count for count, _ in (*self.pass_looks, *self.fail_looks)}))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def fixed(requests: int) -> Plan:
    """So many, and no more; a hopeless endpoint is failed on the way."""
    return Plan(requests, requests, ((requests, 1.0),), _fail_looks(requests))


def once(requests: int) -> Plan:
    """One look at the end: what a file says that tells of no plan."""
    return Plan(requests, requests, ((requests, 1.0),), ((requests, 1.0),))


def auto(slo: Sequence[Slo], *, rows: int = 1, together: int = 1) -> Plan:
    """As many as the hardest target needs to pass with one violation, twice and four times that while undecided."""
    needed = [needed_for(target, 1 / PASSES, rows=rows, together=together) for target in slo]
    requests = max([FEWEST_AUTO, *(count for count in needed if count is not None)])
    most = requests * 2 ** (PASSES - 1)
    passes = tuple((requests * 2**turn, 1 / PASSES) for turn in range(PASSES))
    return Plan(requests, most, passes, _fail_looks(most))


def needed_for(slo: Slo, share: float = 1.0, *, misses: int = 1, rows: int = 1, together: int = 1) -> int | None:
    """The fewest requests that can pass a target with `misses` violations (with none, where none may be).

    None for an invariance, which needs probes, and for a limit that everything meets. `rows` are in a request,
    `together` requests under way at a time.
    """
    if slo.metric in RATES:
        return least_answers(together)
    if slo.bad_share is None or slo.metric in INVARIANCES:
        return None
    trials = least_requests(slo.bad_share, 0 if slo.strict else misses, slo.risk * share)
    return math.ceil(trials / rows) if slo.metric == "quality" else trials


def probes_for(slo: Slo, share: float = 1.0, *, misses: int = 1, rows: int) -> int | None:
    """The fewest probes of `rows` prompts that can pass an invariance, as above; None for what is no share of them."""
    if slo.bad_share is None or slo.metric not in INVARIANCES:
        return None
    return math.ceil(least_requests(slo.bad_share, 0 if slo.strict else misses, slo.risk * share) / rows)


def _fail_looks(most: int) -> Looks:
    counts = []
    count = FIRST_FAIL
    while count < most:
        counts.append(count)
        count *= 2
    return (*((count, 0.5 / len(counts)) for count in counts), (most, 0.5 if counts else 1.0))


def _share(looks: Looks, requests: int) -> float:
    return next((share for count, share in looks if count >= requests), looks[-1][1])
