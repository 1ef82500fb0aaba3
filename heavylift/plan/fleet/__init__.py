"""The fleet: which instance types, and how many of each, serve a mix of request sizes at the least cost.

Not one instance's plan (heavylift.plan.fit). The question is Mélange's (arXiv 2404.14527); the formulation is ours.
"""

from heavylift.plan.fleet.answer import Alone, Fleet, Served, Share
from heavylift.plan.fleet.problem import Bucket, Offer, Problem
from heavylift.plan.fleet.solve import solve

__all__ = ["Alone", "Bucket", "Fleet", "Offer", "Problem", "Served", "Share", "solve"]
