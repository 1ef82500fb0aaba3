"""Prices of hosting: the Price List API's, and where it has none, EC2's times the family's factor. Not a cost.

The queries: https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from heavylift.errors import InputError
from heavylift.plan.facts.price import estimate
from heavylift.refresh.tables import Tables

URL = "https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AmazonSageMaker/current/index.json"


def refresh_prices(tables: Tables, client: Any, region: str, date: str) -> None:
    """`client`: boto3's for pricing. Raises InputError for a region without a single price."""
    published = dict(_published(client, region))
    if not published:
        raise InputError(f"AWS's Price List has no SageMaker hosting in region {region!r}; give one such as us-east-1")
    source, estimated = f"price-list-{region}-{date}", f"price-list-ec2-{region}-{date}"
    tables.source(source, date, f"SageMaker hosting in {region}, from AWS's Price List API", URL)
    what = (
        f"EC2 on-demand price in {region}, from AWS's Price List API, times the ratio of the family's published types"
    )
    tables.source(estimated, date, what, URL.replace("AmazonSageMaker", "AmazonEC2"))
    old = {row["type"]: row for row in tables.prices if row["region"] == region}
    rows = []
    for type_ in (row["type"] for row in tables.instances):
        row = {"type": type_, "region": region}
        if type_ in published:
            ec2 = old.get(type_, {}).get("ec2_usd_per_hour", "unknown")
            row |= {"usd_per_hour": published[type_], "how": "published", "ec2_usd_per_hour": ec2, "source": source}
        else:
            row |= _estimated(client, type_, region, estimated) or old.get(type_) or _UNKNOWN
        rows.append(row)
    others = [row for row in tables.prices if row["region"] != region]
    tables.prices = [*others, *rows] if others and others[0]["region"] < region else [*rows, *others]


_UNKNOWN = {"usd_per_hour": "unknown", "how": "unknown", "ec2_usd_per_hour": "unknown", "source": "unknown"}


def _estimated(client: Any, type_: str, region: str, source: str) -> dict[str, str] | None:
    """From EC2's price, or None where there is none or no factor."""
    filters = {
        "regionCode": region,
        "instanceType": type_.removeprefix("ml."),
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "tenancy": "Shared",
        "capacitystatus": "Used",
    }
    for product in _products(client, "AmazonEC2", filters):
        ec2 = _hourly(product)
        found = None if ec2 is None else estimate(type_, float(ec2))
        if ec2 is not None and found is not None:
            return {"usd_per_hour": f"{found:g}", "how": "estimated", "ec2_usd_per_hour": ec2, "source": source}
    return None


def _published(client: Any, region: str) -> Iterator[tuple[str, str]]:
    for product in _products(client, "AmazonSageMaker", {"regionCode": region, "component": "Hosting"}):
        name, price = product["product"]["attributes"].get("instanceName", ""), _hourly(product)
        if name.startswith("ml.") and price is not None:
            yield name, price


def _products(client: Any, service: str, terms: dict[str, str]) -> Iterator[dict[str, Any]]:
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in terms.items()]
    token: dict[str, str] = {}
    while True:
        page = client.get_products(ServiceCode=service, Filters=filters, **token)
        yield from (json.loads(text) for text in page["PriceList"])
        if not page.get("NextToken"):
            return
        token = {"NextToken": page["NextToken"]}


def _hourly(product: dict[str, Any]) -> str | None:
    """US dollars for an hour on demand, without trailing zeros; None for another unit, or free."""
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            dollars = dimension["pricePerUnit"].get("USD", "0")
            if dimension["unit"] in ("Hrs", "Hours", "hours") and float(dollars) > 0:
                return f"{float(dollars):.10f}".rstrip("0").rstrip(".")
    return None
