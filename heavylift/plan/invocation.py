"""Whether an answer is there within SageMaker's 60 seconds, from the times that the plan expects. Not the times."""

from __future__ import annotations

from heavylift.errors import InputError
from heavylift.plan.parts import Decision, Performance
from heavylift.plan.validity import invocation_faults

FIELD = "invocation"


def invocation(performance: Performance | None, new_tokens: int, *, streams: bool) -> tuple[Decision, ...]:
    """For the longest answer that a request may ask for by default. Nothing where no speed is known.

    Raises InputError where not even the mean request of the load would be answered in time at P10.
    """
    if performance is None:
        return ()
    quick = performance.request_ms.p10 / 1e3
    if not streams and invocation_faults(quick, 0.0, 1, streams=False):
        raise InputError(
            f"the mean request takes {quick:.1f} s at P10, and SageMaker ends an invocation after 60 s: "
            f"choose a faster instance_type, a smaller dtype, or shorter answers"
        )
    first, each = performance.first_token_ms.p90 / 1e3, performance.per_token_ms.p90 / 1e3
    faults = invocation_faults(first, each, new_tokens, streams=streams)
    arithmetic = f"{first:.3g} s + {new_tokens} tokens · {each:.3g} s at P90"
    if faults:
        return (Decision(FIELD, "may take longer than 60 s", "computed", f"{arithmetic}: {faults[0]}"),)
    how = "streamed: only the first token counts" if streams else "within SageMaker's 60 s"
    return (Decision(FIELD, how, "computed", arithmetic),)
