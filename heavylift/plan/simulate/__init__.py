"""Which parallel plan serves a trace best: continuous batching, simulated iteration by iteration.

Not the times of an iteration (heavylift.plan.performance). The question is APEX's (arXiv 2411.17651).
"""

from heavylift.plan.simulate.batching import Limits
from heavylift.plan.simulate.endpoint import simulate
from heavylift.plan.simulate.outcome import Outcome, Request
from heavylift.plan.simulate.steptime import StepTime
from heavylift.plan.simulate.trace import Arrival, read_trace

__all__ = ["Arrival", "Limits", "Outcome", "Request", "StepTime", "read_trace", "simulate"]
