"""`facts refresh` against moto's EC2 (whose types are AWS's own answers, recorded) and a stubbed Price List."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from heavylift.commands import facts as command
from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.refresh.instances import refresh_instances
from heavylift.refresh.prices import refresh_prices
from heavylift.refresh.tables import Tables

DATE = "2026-12-24"
HOME = Path(facts.__file__).parent


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    """A copy of the tables."""
    for table in HOME.glob("*.csv"):
        shutil.copy(table, tmp_path)
    return Tables.read(tmp_path)


NOBODY = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}


@pytest.fixture(scope="module")
def ec2() -> Iterator[Any]:
    """moto's, in us-east-1."""
    with mock_aws():
        yield boto3.client("ec2", **NOBODY)


def product(name: str, dollars: str, unit: str = "Hrs", key: str = "instanceName") -> str:
    """One entry of the Price List, as the API sends it: JSON in a string."""
    dimensions = {"SKU.JRT": {"unit": unit, "pricePerUnit": {"USD": dollars}}}
    return json.dumps(
        {
            "product": {"productFamily": "ML Instance", "attributes": {key: name, "component": "Hosting"}},
            "terms": {"OnDemand": {"SKU.OD": {"priceDimensions": dimensions}}},
        }
    )


class Prices:
    """A Price List: SageMaker's pages, and EC2's price by type; the queries that were asked."""

    def __init__(self, pages: list[list[str]], ec2: dict[str, str]) -> None:
        self._pages, self._ec2 = pages, ec2
        self.asked: list[dict[str, Any]] = []
        self._client = boto3.client("pricing", **NOBODY)

    def get_products(self, **query: Any) -> dict[str, Any]:
        self.asked.append(query)
        terms = {each["Field"]: each["Value"] for each in query["Filters"]}
        if query["ServiceCode"] == "AmazonEC2":
            price = self._ec2.get(terms["instanceType"])
            answer: dict[str, Any] = {"PriceList": [] if price is None else [product("", price, key="instanceType")]}
        else:
            place = int(query.get("NextToken", "0"))
            more = {"NextToken": str(place + 1)} if place + 1 < len(self._pages) else {}
            answer = {"PriceList": self._pages[place], **more}
        with Stubber(self._client) as stub:  # botocore proves the query and the answer against the API's own shapes
            stub.add_response("get_products", answer, query)
            found: dict[str, Any] = self._client.get_products(**query)
        return found


def row(rows: list[dict[str, str]], type_: str, region: str | None = None) -> dict[str, str]:
    (found,) = [each for each in rows if each["type"] == type_ and region in (None, each.get("region"))]
    return found


@pytest.mark.slow
def test_every_described_type_has_the_numbers_that_aws_says(tables: Tables, ec2: Any) -> None:
    described = [each["type"] for each in tables.instances if each["source"] == "ec2-describe"]
    before = {each["type"]: {**each, "source": ""} for each in tables.instances}

    refresh_instances(tables, ec2, [], DATE)

    after = {each["type"]: {**each, "source": ""} for each in tables.instances}
    assert len(described) > 100
    for type_ in described:
        numbers = {key: float(value) for key, value in after[type_].items() if value and key not in TEXT}
        assert numbers == {key: float(value) for key, value in before[type_].items() if value and key not in TEXT}
        assert before[type_]["accelerator"] == after[type_]["accelerator"]


TEXT = ("type", "accelerator", "source")


def test_a_new_type_gets_a_row_and_one_that_is_gone_keeps_its_own(tables: Tables, ec2: Any) -> None:
    tables.instances = [each for each in tables.instances if each["type"] != "ml.g5.12xlarge"]
    tables.instances[0] = {**tables.instances[0], "vcpus": "3"}
    (tables.folder / "instances.csv").write_text((HOME / "instances.csv").read_text().replace("ml.g5.12xlarge", "ml.x"))
    old = row(tables.instances, "ml.p3.2xlarge")

    notes = refresh_instances(tables, ec2, ["ml.g5.12xlarge"], DATE)

    added = row(tables.instances, "ml.g5.12xlarge")
    assert (added["accelerator"], added["accelerators"], added["nvme_gb"]) == ("A10G", "4", "3800")
    assert row(tables.instances, "ml.c6i.large")["vcpus"] == "2"
    assert row(tables.instances, "ml.p3.2xlarge") == old
    assert "EC2 describes no ml.p3.2xlarge in this region; its row stays as it was" in notes


def test_a_type_with_an_unknown_accelerator_is_not_added_but_named(tables: Tables, ec2: Any) -> None:
    notes = refresh_instances(tables, ec2, ["ml.g5g.xlarge"], DATE)

    assert [note for note in notes if "ml.g5g.xlarge has a '" in note and "add it to accelerators.csv" in note]
    assert not [each for each in tables.instances if each["type"] == "ml.g5g.xlarge"]


def test_published_prices_come_from_all_pages_and_the_others_from_ec2_times_the_factor(tables: Tables) -> None:
    pages = [
        [product("ml.g5.xlarge", "1.5000000000"), product("ml.g5.2xlarge", "9.9", unit="GB")],
        [product("ml.p5e.48xlarge", "0.0000000000"), product("ml.c6i.xlarge", "0.2040000000")],
    ]
    client = Prices(pages, {"p5e.48xlarge": "60.0000000000", "g6e.16xlarge": "8"})

    refresh_prices(tables, client, "us-east-1", DATE)
    changes = tables.write()

    assert row(tables.prices, "ml.g5.xlarge") == {
        "type": "ml.g5.xlarge",
        "region": "us-east-1",
        "usd_per_hour": "1.5",
        "how": "published",
        "ec2_usd_per_hour": "1.006",
        "source": f"price-list-us-east-1-{DATE}",
    }
    estimated = row(tables.prices, "ml.p5e.48xlarge")
    assert (estimated["usd_per_hour"], estimated["how"], estimated["ec2_usd_per_hour"]) == ("69", "estimated", "60")
    assert row(tables.prices, "ml.g6e.16xlarge")["usd_per_hour"] == "10"
    assert row(tables.prices, "ml.g5.2xlarge")["usd_per_hour"] == "1.515"  # not published: as it was
    assert {"Type": "TERM_MATCH", "Field": "component", "Value": "Hosting"} in client.asked[0]["Filters"]
    assert ("ml.g5.xlarge us-east-1", "usd_per_hour", "1.408", "1.5") in [
        (each.row, each.field, each.old, each.new) for each in changes
    ]


def test_another_regions_prices_stand_beside_the_first(tables: Tables) -> None:
    refresh_prices(tables, Prices([[product("ml.g5.xlarge", "1.6")]], {}), "eu-west-1", DATE)
    tables.write()

    again = Tables.read(tables.folder)
    assert row(again.prices, "ml.g5.xlarge", "eu-west-1")["usd_per_hour"] == "1.6"
    assert row(again.prices, "ml.g5.xlarge", "us-east-1")["usd_per_hour"] == "1.408"
    assert row(again.prices, "ml.g5.2xlarge", "eu-west-1")["how"] == "unknown"
    regions = [each["region"] for each in again.prices]
    assert regions == sorted(regions) and len(regions) == 2 * len(again.instances)


def test_a_region_without_prices_is_refused_and_nothing_is_written(tables: Tables) -> None:
    with pytest.raises(InputError, match="no SageMaker hosting in region 'mars-1'; give one such as us-east-1"):
        refresh_prices(tables, Prices([[]], {}), "mars-1", DATE)

    assert (tables.folder / "prices.csv").read_text() == (HOME / "prices.csv").read_text()


@pytest.mark.slow
def test_a_source_stays_as_long_as_a_row_refers_to_it(tables: Tables, ec2: Any) -> None:
    refresh_instances(tables, ec2, [], "2026-12-01")
    tables.write()
    later = Tables.read(tables.folder)
    refresh_instances(later, ec2, [], DATE)
    later.write()

    names = [each["source"] for each in Tables.read(tables.folder).sources]
    assert f"ec2-api-{DATE}" in names and "ec2-api-2026-12-01" not in names
    assert {each["source"] for each in later.instances} <= set(names)


def test_a_table_that_cannot_be_written_leaves_the_old_one(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_text() for path in tables.folder.iterdir()}
    tables.instances[0] = {**tables.instances[0], "vcpus": "99"}

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        tables.write()

    assert {path.name: path.read_text() for path in tables.folder.iterdir()} == before


def test_the_command_shows_what_changed(
    tables: Tables, ec2: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import argparse

    clients = {"ec2": ec2, "pricing": Prices([[product("ml.g5.xlarge", "1.5")]], {})}
    monkeypatch.setattr("boto3.client", lambda name, **_: clients[name])
    monkeypatch.setattr(command.known, "__file__", str(tables.folder / "__init__.py"))

    assert command.facts(argparse.Namespace(region="us-east-1", json=False)) == 0

    out = capsys.readouterr().out
    assert ["prices", "ml.g5.xlarge", "us-east-1", "usd_per_hour", "1.408", "→", "1.5"] in [
        line.split() for line in out.splitlines()
    ]
    assert "price-list-us-east-1-" in (tables.folder / "sources.csv").read_text()
