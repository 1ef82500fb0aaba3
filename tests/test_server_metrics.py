"""What /metrics tells of visits: histograms like the client library's own, which here takes one value at a time."""

from __future__ import annotations

import random

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from heavylift_runtime.server.attending import Departure
from heavylift_runtime.server.metrics import Metrics
from heavylift_runtime.server.visit import Visit


def series(page: bytes, name: str) -> dict[tuple[str, str], float]:
    """Of one histogram: the samples by their name and bound."""
    families = {family.name: family for family in text_string_to_metric_families(page.decode())}
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for sample in families[name].samples
        if not sample.name.endswith("_created")
    }


def visit(**more: object) -> Visit:
    async def send(message: object) -> None:
        raise AssertionError("nothing is sent")

    return Visit("/invocations", {}, Departure(), send, "id", 0.0, "model", code=200, **more)  # type: ignore[arg-type]


def test_gaps_that_are_told_together_count_as_the_client_library_counts_each() -> None:
    draw, bounds = (
        random.Random(3),
        (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    )
    gaps = [(draw.expovariate(1), draw.randint(1, 9)) for _ in range(200)] + [(0.0, 4), (0.005, 1), (1e9, 2)]
    registry = CollectorRegistry()
    theirs = Histogram("heavylift_inter_token_seconds", "…", ["model"], registry=registry, buckets=(*bounds, 60.0))
    metrics = Metrics(list)

    metrics.over(visit(gaps=gaps), 1.0)
    for gap, times in gaps:
        for _ in range(times):
            theirs.labels("model").observe(gap)

    found = series(metrics.page(), "heavylift_inter_token_seconds")
    expected = series(generate_latest(registry), "heavylift_inter_token_seconds")
    assert found == pytest.approx(expected, rel=1e-12)  # the sum is added in another order


def test_a_visit_that_never_got_a_place_or_a_token_is_counted_where_it_was() -> None:
    metrics = Metrics(list)

    metrics.over(visit(), 0.3)
    metrics.over(visit(seated=0.002, opened=0.02), 0.7)

    counts = {
        name: series(metrics.page(), f"heavylift_{name}_seconds")[f"heavylift_{name}_seconds_count", ""]
        for name in ("request", "queue", "first_token", "inter_token")
    }
    assert counts == {"request": 2, "queue": 1, "first_token": 1, "inter_token": 0}
    assert series(metrics.page(), "heavylift_request_seconds")["heavylift_request_seconds_sum", ""] == 1.0
