"""The regularized incomplete beta function, and what follows from it: Student's t, and the interval of a share.

Not the tests that use them (judgement.py, rates.py). NIST Digital Library of Mathematical Functions, 8.17(v): the
continued fraction, evaluated as Lentz does; the interval of a share is Clopper's and Pearson's (Biometrika 26, 1934).
"""

from __future__ import annotations

import math

TINY = 1e-300
PRECISION = 1e-15
STEPS = 100_000


def incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b) for 0 <= x <= 1 and positive a, b."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast below the mean
        return 1 - incomplete_beta(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) / a * _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    value, c, d = 1.0, 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > TINY else TINY)
    value = d
    for m in range(1, STEPS):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 + numerator * d, 1 + numerator / c
            d = 1 / (d if abs(d) > TINY else TINY)
            c = c if abs(c) > TINY else TINY
            value *= d * c
        if abs(d * c - 1) < PRECISION:
            return value
    raise AssertionError(f"no convergence for x={x}, a={a}, b={b}")


def student_tail(t: float, freedom: float) -> float:
    """P(T >= t) for Student's T with so many degrees of freedom."""
    half = incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5) / 2
    return half if t >= 0 else 1 - half


def student_quantile(tail: float, freedom: float) -> float:
    """The t with P(T >= t) = tail, for 0 < tail <= 0.5."""
    low, high = 0.0, 1.0
    while student_tail(high, freedom) > tail:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, freedom) > tail else (low, middle)
    return high


def share_interval(count: int, trials: int, risk: float) -> tuple[float, float]:
    """Where the share of a kind lies of which `count` of `trials` are, but for `risk`, half of it on each side."""
    low = 0.0 if count == 0 else _quantile(risk / 2, count, trials - count + 1)
    high = 1.0 if count == trials else _quantile(1 - risk / 2, count + 1, trials - count)
    return low, high


def _quantile(probability: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = probability."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if incomplete_beta(middle, a, b) < probability else (low, middle)
    return (low + high) / 2
