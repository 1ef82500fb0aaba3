"""`facts refresh`: the tables of instance types and prices, read anew from AWS. Not the plan, which reads the tables.

It needs credentials with pricing:GetProducts and ec2:DescribeInstanceTypes, and changes nothing in the account.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

from heavylift.plan import facts as known
from heavylift.refresh.instances import refresh_instances
from heavylift.refresh.prices import refresh_prices
from heavylift.refresh.tables import Change, Tables

PRICING_REGION = "us-east-1"  # where the Price List API is
ACCELERATED = re.compile(r"ml\.(g\d|p\d|inf|trn|dl)")


def facts(chosen: argparse.Namespace) -> int:
    """Refresh the tables and show what changed; the working tree's difference is for review and commit."""
    import boto3
    from botocore.loaders import Loader

    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    shapes = Loader().load_service_model("sagemaker", "service-2")["shapes"]
    hosted = [name for name in shapes["ProductionVariantInstanceType"]["enum"] if ACCELERATED.match(name)]
    tables = Tables.read(Path(known.__file__).parent)
    region = chosen.region
    notes = refresh_instances(tables, boto3.client("ec2", region_name=region), hosted, date)
    refresh_prices(tables, boto3.client("pricing", region_name=PRICING_REGION), region, date)
    changes = tables.write()
    if chosen.json:
        print(json.dumps({"changes": [asdict(change) for change in changes], "notes": notes}, indent=2))
        return 0
    for line in lines(changes):
        print(line)
    for note in notes:
        print(note, file=sys.stderr)
    print(f"{len(changes)} cells changed in {tables.folder}; plan again: a lock says which facts it was made with")
    return 0


def lines(changes: list[Change]) -> list[str]:
    """Aligned: table, row, field, old → new."""
    cells = [(each.table, each.row, each.field, f"{each.old or '(new)'} → {each.new}") for each in changes]
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(4)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
