"""Why no fleet serves a mix, and what is missing. Not the search itself."""

from __future__ import annotations

import math
from dataclasses import replace

from heavylift.plan.fleet.assign import served_share
from heavylift.plan.fleet.problem import MOST_POOLS, Bucket, Problem
from heavylift.plan.fleet.search import search

SHOWN = 3


def refusal(problem: Problem, seconds: float) -> str:
    """One sentence with what would mend it, for a problem that has no fleet."""
    lost = [bucket for place, bucket in enumerate(problem.buckets) if not _served(problem, place)]
    if lost:
        names = ", ".join(offer.name for offer in problem.offers)
        return f"no offered type ({names}) serves {_sizes(lost)} within the SLO; offer a larger type or loosen the SLO"
    least = sum(offer.at_least > 0 for offer in problem.offers)
    if least > problem.most_types:
        return f"{least} types have an 'at least', and a fleet may have {problem.most_types} types; drop some of them"
    had = [offer.at_most for offer in problem.offers if offer.at_most is not None]
    if len(had) == len(problem.offers) and sum(had) < problem.minimum_instances:
        return f"at least {problem.minimum_instances} instances are asked for, and the quotas allow {sum(had)} in all"
    free = replace(problem, offers=tuple(replace(offer, at_most=None) for offer in problem.offers))
    found = search(free, seconds)
    if found is None:
        limit = "SageMaker allows" if problem.most_types == MOST_POOLS else "the fleet may have"
        return (
            f"no {problem.most_types} types, which is what {limit}, serve every size together; offer a more general one"
        )
    wanted = [
        f"{offer.name} from {offer.at_most} to {found.counts.get(place, 0)}"
        for place, offer in enumerate(problem.offers)
        if offer.at_most is not None and found.counts.get(place, 0) > offer.at_most
    ]
    usd = math.fsum(problem.offers[place].usd_per_hour * count for place, count in found.counts.items())
    share = 100 * served_share(problem)
    of = f"the {problem.requests_per_second:g} requests per second in this mix"
    missing = f"the quotas serve {share:.1f} % of {of}: {100 - share:.1f} % are missing"
    if share > 99.95:
        missing = f"the quotas serve {of} with more than {problem.most_types} types only"
    return f"{missing}; the cheapest fleet without quotas costs ${usd:.4g} an hour and needs {' and '.join(wanted)}"


def _served(problem: Problem, place: int) -> bool:
    return place not in problem.asked or any(pair[1] == place for pair in problem.pairs())


def _sizes(buckets: list[Bucket]) -> str:
    shown = " and ".join(map(str, buckets[:SHOWN]))
    return shown if len(buckets) <= SHOWN else f"{shown} and {len(buckets) - SHOWN} more sizes"
