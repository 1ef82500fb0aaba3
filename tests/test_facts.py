"""The fact tables: complete rows, dated sources, and only types that SageMaker hosts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from botocore.loaders import Loader

from heavylift.plan import facts, times
from heavylift.plan.demand import SMALL
from heavylift.plan.memory import GIB
from heavylift.spec import schema
from heavylift.spec.model import ModelSpec
from heavylift_runtime.engines.registry import ENGINES


@pytest.fixture(scope="module")
def api() -> Any:
    """The shapes of SageMaker's API, as botocore ships them."""
    return Loader().load_service_model("sagemaker", "service-2")["shapes"]


def test_every_type_in_the_table_is_one_that_sagemaker_hosts(api: Any) -> None:
    hosted = set(api["ProductionVariantInstanceType"]["enum"])

    assert set(facts.instances()) <= hosted
    assert len(facts.instances()) >= 80


def test_every_accelerated_type_of_the_planned_families_is_in_the_table(api: Any) -> None:
    families = r"ml\.(g4dn|g5|g6|g6e|p4d|p4de|p5|p5e|p5en|inf2|trn1)\."
    hosted = {name for name in api["ProductionVariantInstanceType"]["enum"] if re.match(families, name)}

    assert hosted <= set(facts.instances())


def test_our_limits_are_the_apis(api: Any) -> None:
    fields = schema()["properties"]
    limits = {
        "container_startup_health_check_timeout_in_seconds": "ContainerStartupHealthCheckTimeoutInSeconds",
        "model_data_download_timeout_in_seconds": "ModelDataDownloadTimeoutInSeconds",
        "volume_size_in_gb": "VolumeSizeInGB",
    }

    for field, shape in limits.items():
        theirs = api[f"ProductionVariant{shape}"]
        ours = fields[field]["anyOf"][1]
        assert (ours["minimum"], ours["maximum"]) == (theirs["min"], theirs["max"]), field
    assert (times.SHORTEST, times.LONGEST) == (60, 3600)


def test_every_number_has_a_dated_source_and_unknown_is_said() -> None:
    for fact in facts.instances().values():
        for origin in (fact.origin, fact.price_origin):
            assert re.fullmatch(r"20\d\d-\d\d-\d\d", origin.date) and origin.url.startswith("https://"), fact.type
        assert (fact.usd_per_hour is None) == (fact.price_how == "unknown"), fact.type
        assert fact.vcpus >= 2 and fact.memory_gib >= 4, fact.type
        assert fact.network_gbps is None or 0 < fact.network_gbps <= (fact.network_burst_gbps or 1e9), fact.type
        assert (fact.accelerators == 0) == (fact.accelerator is None), fact.type
    assert facts.instances()["ml.p5e.48xlarge"].usd_per_hour is None


def test_known_rows_are_right() -> None:
    g5, inf2 = facts.instances()["ml.g5.12xlarge"], facts.instances()["ml.inf2.48xlarge"]

    assert (g5.devices, g5.hardware, g5.nvme, g5.memory_gib) == (4, "gpu", True, 192)
    assert (inf2.devices, inf2.hardware, inf2.nvme) == (24, "neuron", False)
    assert facts.instances()["ml.g5.16xlarge"].devices == 1  # larger name, fewer GPUs than ml.g5.12xlarge
    assert facts.instances()["ml.c6i.xlarge"].hardware == "cpu"


def test_the_model_files_engines_are_the_registrys() -> None:
    named = ModelSpec.model_json_schema()["properties"]["engine"]["enum"]

    assert set(named) == {"auto", *ENGINES}


def test_a_small_model_is_one_that_every_cpu_type_above_the_smallest_holds() -> None:
    cpu = [fact for fact in facts.instances().values() if fact.hardware == "cpu"]

    assert all(fact.memory_gib * GIB > SMALL for fact in cpu)
