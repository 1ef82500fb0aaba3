"""What we know of SageMaker's instance types: dated, sourced tables. Not fetched: `heavylift facts refresh` does that.

    instances.csv      one row for each type we plan for        prices.csv       by type and region
    accelerators.csv   one row for each device                  collectives.csv  all-reduce, by device and degree
    precisions.csv     number formats, by generation            amis.csv         InferenceAmiVersions
    sources.csv        where and when a row's numbers were read

A cell `unknown` says so; nothing is filled in. `no`: the device lacks it.
"""

from heavylift.plan.facts.accelerator import Accelerator, Collective, Hardware, accelerators
from heavylift.plan.facts.instance import InstanceFact, instances, unknown_type
from heavylift.plan.facts.price import REGION, STALE_AFTER, PriceFact, PriceHow, price, prices
from heavylift.plan.facts.table import Origin, dates, digest, origins

__all__ = [
    "REGION",
    "STALE_AFTER",
    "Accelerator",
    "Collective",
    "Hardware",
    "InstanceFact",
    "Origin",
    "PriceFact",
    "PriceHow",
    "accelerators",
    "dates",
    "digest",
    "instances",
    "origins",
    "price",
    "prices",
    "unknown_type",
]
