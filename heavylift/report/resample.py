"""Statistics of two samples that do not assume a distribution: block bootstrap, KS distance, exact sign test, Newcombe.

Not what is compared (compare.py). NumPy is imported where it is used, so that no other command waits for it.
Sources: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8 and 13; D. Politis, J. Romano,
"A circular block-resampling procedure for stationary data", 1992; R. Newcombe, "Interval estimation for the difference
between independent proportions", Statistics in Medicine 17 (1998), method 10.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

MOST_RESAMPLES, FEWEST_RESAMPLES, WORK = 2000, 400, 30_000_000
AT_ONCE = 200_000  # values resampled at once: 1.6 MB, and as much again for their places


def resamples(count: int) -> int:
    """How many resamples of so many values are drawn: fewer of very many values, whose quantiles vary less."""
    return max(FEWEST_RESAMPLES, min(MOST_RESAMPLES, WORK // max(count, 1)))


def block_length(count: int) -> int:
    """Values that follow each other are resampled together, because they are alike: the cube root of their number."""
    return max(1, round(math.cbrt(count)))


def quantiles(ordered: Values, shares: Sequence[float]) -> Values:
    """Quantiles (0..1) along the last axis of sorted values, (..., N) to (len(shares), ...); linear interpolation, and
    infinite where the rank needs an infinite value."""
    import numpy as np

    found = []
    for share in shares:
        rank = share * (ordered.shape[-1] - 1)
        low = math.floor(rank)
        below = ordered[..., low]
        if rank == low:
            found.append(below)
            continue
        above = ordered[..., low + 1]
        with np.errstate(invalid="ignore"):
            found.append(np.where(np.isinf(above), above, below + (above - below) * (rank - low)))
    return np.array(found)


def resampled_quantiles(
    runs: Sequence[Sequence[float]], shares: Sequence[float], rng: np.random.Generator, *, block: int | None = None
) -> Values:
    """Quantiles of bootstrap resamples, (len(shares), resamples). Runs are drawn with replacement, and within each run
    circular blocks of neighbours: what differs from run to run is noise, too, where there are several."""
    import numpy as np

    drawn = _resampled(runs, rng, resamples(sum(map(len, runs))), block)
    return np.concatenate([quantiles(np.sort(some, axis=-1), shares) for some in drawn], axis=-1)


def resampled_means(runs: Sequence[Sequence[float]], rng: np.random.Generator) -> Values:
    """Means of bootstrap resamples, (resamples,); as above, values of one run in blocks."""
    import numpy as np

    return np.concatenate([some.mean(axis=-1) for some in _resampled(runs, rng, MOST_RESAMPLES, None)])


def _resampled(
    runs: Sequence[Sequence[float]], rng: np.random.Generator, count: int, block: int | None
) -> Iterator[Values]:
    """Resamples, as many at a time as the memory allows: (some, N); one at a time where runs are drawn, too."""
    import numpy as np

    arrays = [np.asarray(run, dtype=np.float64) for run in runs]
    if len(arrays) > 1:
        for _ in range(count):
            drawn = [_blocks(arrays[pick], rng, 1, block) for pick in rng.integers(len(arrays), size=len(arrays))]
            yield np.concatenate(drawn, axis=-1)
        return
    at_once = max(1, AT_ONCE // len(arrays[0]))
    for done in range(0, count, at_once):
        yield _blocks(arrays[0], rng, min(at_once, count - done), block)


def _blocks(run: Values, rng: np.random.Generator, count: int, block: int | None) -> Values:
    """(count, N) resamples of a run (N,), each of circular blocks."""
    import numpy as np

    length = block_length(len(run)) if block is None else block
    starts = rng.integers(len(run), size=(count, -(-len(run) // length)))
    places = (starts[..., None] + np.arange(length)).reshape(count, -1)[:, : len(run)] % len(run)
    drawn: Values = run[places]
    return drawn


def ratio_interval(above: Values, below: Values, risk: float) -> tuple[float, float]:
    """The percentile interval of above / below over resamples, but for `risk`. Infinite over infinite counts as 1."""
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = above / below
    ratios[np.isnan(ratios)] = 1.0
    ordered = np.sort(ratios)
    low, high = (math.floor(risk / 2 * (len(ordered) - 1)), math.ceil((1 - risk / 2) * (len(ordered) - 1)))
    return float(ordered[low]), float(ordered[high])


def ks_distance(a: Sequence[float], b: Sequence[float]) -> float:
    """The largest distance between the two empirical distribution functions, 0..1."""
    import numpy as np

    one, other = np.sort(np.asarray(a)), np.sort(np.asarray(b))
    everywhere = np.concatenate([one, other])
    shares = [np.searchsorted(each, everywhere, side="right") / len(each) for each in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def sign_test(lost: int, gained: int) -> float:
    """The two-sided exact p-value that as many rows are lost as gained (McNemar's test on discordant pairs)."""
    total, fewer = lost + gained, min(lost, gained)
    if lost == gained:
        return 1.0
    tail = sum(math.comb(total, count) for count in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**total))


def wilson(bad: int, total: int, risk: float) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf(1 - risk / 2)
    share, weight = bad / total, z * z / total
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def share_difference(a: tuple[int, int], b: tuple[int, int], risk: float) -> tuple[float, float]:
    """Newcombe's interval of (share of b) - (share of a), each as (bad, total)."""
    (p, q), (a_low, a_high), (b_low, b_high) = (
        (a[0] / a[1], b[0] / b[1]),
        wilson(*a, risk),
        wilson(*b, risk),
    )
    low = math.hypot(q - b_low, a_high - p)
    high = math.hypot(b_high - q, p - a_low)
    return q - p - low, q - p + high
