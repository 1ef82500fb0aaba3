"""HiGHS, called through scipy with nothing printed. Not a program of ours.

Some of its repairs write a debugging line to the process's standard output, which is where our JSON goes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from heavylift.plan.fleet.rows import Rows


def minimise(
    price: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    rows: Rows,
    integral: Sequence[int] = (),
    seconds: float | None = None,
) -> Any:
    """scipy's OptimizeResult; `integral` has a 1 for each column that must be whole. Proven to a gap of 0 in time."""
    from scipy.optimize import Bounds, milp  # half a second to import

    options = {"mip_rel_gap": 0.0} | ({} if seconds is None else {"time_limit": seconds})
    with _silent():
        return milp(
            price,
            integrality=integral or None,
            bounds=Bounds(low, high),
            constraints=[rows.constraint()],
            options=options,
        )


@contextmanager
def _silent() -> Iterator[None]:
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
