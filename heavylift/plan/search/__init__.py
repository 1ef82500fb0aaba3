"""Every way to serve a model: instances, engines, precisions, degrees, copies, with times, cost and reasons.

Not the facts, rules and closed forms that it asks.
"""

from heavylift.plan.search.candidate import Candidate, Estimate, Option, Rejected
from heavylift.plan.search.found import Found
from heavylift.plan.search.search import Planned, Wanted, search

__all__ = ["Candidate", "Estimate", "Found", "Option", "Planned", "Rejected", "Wanted", "search"]
