"""What a load costs: dollars an hour, and for a million tokens at the load that comes and at the most there could be.

Not prices (facts). A token costs more the less its instance has to do, for an instance is paid by the hour.
"""

from __future__ import annotations

from math import ceil

from heavylift.plan.performance.throughput import BUSIEST

HOUR, MILLION = 3600.0, 1e6


def usd_per_million(usd_per_hour: float, tokens_per_second: float) -> float:
    """US dollars for 10**6 tokens: 10**6 · $/h / (3600 · tokens/s)."""
    return MILLION * usd_per_hour / (HOUR * tokens_per_second)


def instances(rate: float, each: float, least: int = 1) -> int:
    """How many instances answer `rate` requests a second, when each answers `each` at the most and works at 80 %."""
    return max(least, ceil(rate / (BUSIEST * each) - 1e-9))
