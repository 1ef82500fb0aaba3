"""Which types a region hosts: the table, and what a deployment makes of it. Synthesis is test_constructs_dlc.py's."""

from __future__ import annotations

import pytest

from heavylift.deploy.quota import check
from heavylift.errors import DeployError
from heavylift.plan import facts
from heavylift.plan.hosted import _table, not_hosted
from tests.test_deploy_capacity import account


def test_the_table_has_the_types_that_we_have_facts_of_and_many_regions() -> None:
    regions = _table()["regions"]

    named = {type_ for types in regions.values() for type_ in types.split()}
    assert named <= set(facts.instances())
    assert len(regions) > 30
    assert {"ml.g5.12xlarge", "ml.inf2.xlarge", "ml.p5.48xlarge"} <= set(regions["us-east-1"].split())


def test_a_type_that_a_region_lacks_is_told_with_the_regions_that_have_it() -> None:
    told = not_hosted("ml.p5.48xlarge", "eu-west-1")

    assert told is not None
    assert told.startswith("SageMaker did not host endpoints on ml.p5.48xlarge in eu-west-1 on 2026-10-20; it did in ")
    assert "us-east-1" in told


@pytest.mark.parametrize(
    ("type_", "region"),
    [("ml.g5.xlarge", "us-east-1"), ("ml.g5.xlarge", "mars-north-1"), ("ml.trn2.48xlarge", "us-east-1")],
)
def test_nothing_is_said_of_what_is_there_or_not_known(type_: str, region: str) -> None:
    assert not_hosted(type_, region) is None


def test_a_type_without_a_quota_in_a_region_that_does_not_host_it_ends_the_deployment() -> None:
    quotas, sagemaker = account(limit=4, running=0)

    with pytest.raises(DeployError, match=r"did not host endpoints on ml.p5.48xlarge in eu-west-1.*no quota"):
        check(quotas, sagemaker, "mine", {"ml.p5.48xlarge": 1}, "eu-west-1")
