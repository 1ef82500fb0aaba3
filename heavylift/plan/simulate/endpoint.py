"""A trace served by several copies: each request goes to the copy with the fewest outstanding.

Not one copy's batching (batching.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from heavylift.errors import InputError
from heavylift.plan.simulate.batching import BLOCK, Copy, Limits
from heavylift.plan.simulate.outcome import Outcome, Request, percentiles
from heavylift.plan.simulate.steptime import StepTime
from heavylift.plan.simulate.trace import Arrival


def simulate(trace: Sequence[Arrival], time: StepTime, limits: Limits, copies: int = 1) -> Outcome:
    """Serve the whole trace, in order of arrival. Deterministic. Raises InputError for requests that no cache holds."""
    faults = tuple(_too_long(trace, limits))
    if faults:
        raise InputError(faults)
    requests = [Request(each.arrival_s, each.input_tokens, each.output_tokens) for each in trace]
    fleet = [Copy(time, limits) for _ in range(copies)]
    for request in requests:
        for copy in fleet:
            copy.advance(request.arrival_s)
        min(fleet, key=lambda copy: (copy.outstanding(request.arrival_s), copy.assigned)).take(request)
    for copy in fleet:
        copy.advance(math.inf)
    return _outcome(requests, fleet)


def _too_long(trace: Sequence[Arrival], limits: Limits) -> list[str]:
    longest = max(trace, key=lambda each: each.input_tokens + each.output_tokens)
    if limits.holds(longest.input_tokens + longest.output_tokens):
        return []
    size = f"{longest.input_tokens} tokens in and {longest.output_tokens} out"
    return [f"a request of {size} does not fit the cache of {limits.blocks * BLOCK} tokens"]


def _outcome(requests: list[Request], fleet: list[Copy]) -> Outcome:
    begin = min(each.arrival_s for each in requests)
    seconds = max(each.end_s for each in requests) - begin
    generated = sum(each.output_tokens for each in requests)
    busy = math.fsum(copy.busy for copy in fleet)
    return Outcome(
        ttft_s=percentiles([each.ttft_s for each in requests]),
        tpot_s=percentiles([tpot for each in requests if (tpot := each.tpot_s) is not None]),
        latency_s=percentiles([each.latency_s for each in requests]),
        seconds=seconds,
        requests_per_second=len(requests) / seconds,
        tokens_per_second=generated / seconds,
        utilisation=busy / (len(fleet) * seconds),
        rows=math.fsum(copy.row_seconds for copy in fleet) / busy,
        cache=max(copy.most_blocks for copy in fleet) / fleet[0].limits.blocks,
        preemptions=sum(copy.preemptions for copy in fleet),
        read_again=sum(copy.prefilled for copy in fleet) - sum(each.input_tokens for each in requests),
        requests=tuple(requests),
    )
