"""Which instance types SageMaker hosts endpoints on in which region, as AWS's Price List had them on a date.

Not an answer: AWS adds types to regions, and sells some by reservation only. What the table does not have, it warns of.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


def not_hosted(type_: str, region: str) -> str | None:
    """The sentence for a type that the region's list lacks; None where it is there, or either of the two is unknown."""
    table = _table()
    regions: dict[str, str] = table["regions"]
    there = [each for each, types in regions.items() if type_ in types.split()]
    if region not in regions or not there or region in there:
        return None
    return (
        f"SageMaker did not host endpoints on {type_} in {region} on {table['date']}; it did in {', '.join(there)} "
        f"({table['source']})"
    )


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((resources.files(__package__) / "hosted.json").read_text("utf-8"))
    return table
