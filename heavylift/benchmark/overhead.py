"""SageMaker's own share of the latency: the mean time of the model and of SageMaker, as CloudWatch tells them.

Not their asking (cloudwatch.py), nor the client's measurement (attribution.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Overhead:
    """Means in ms over so many invocations, those of others in the same minutes included. Of a streamed reply
    (`first_chunk`) until its first part."""

    invocations: int
    model_ms: float
    overhead_ms: float
    first_chunk: bool = False

    @classmethod
    def of(cls, told: Sequence[Overhead]) -> Overhead | None:
        """Of several at once, each with the weight of its invocations; None of none."""
        count = sum(each.invocations for each in told)
        if not count:
            return None
        model, own = (
            sum(getattr(each, name) * each.invocations for each in told) / count for name in ("model_ms", "overhead_ms")
        )
        return cls(count, round(model, 6), round(own, 6), any(each.first_chunk for each in told))
