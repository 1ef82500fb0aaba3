"""The fact tables: complete rows, dated sources, and only types that SageMaker hosts."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest
from botocore.loaders import Loader

from heavylift.plan import facts, times
from heavylift.plan.engine import SMALL
from heavylift.plan.facts.precision import precisions
from heavylift.plan.facts.price import estimate
from heavylift.plan.facts.table import TABLES, rows
from heavylift.plan.memory import GIB
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


ACCELERATED = re.compile(r"ml\.(g\d|p\d|inf|trn|dl|vt|f\d)")


def missing_types(api: Any, known: set[str]) -> list[str]:
    """Accelerated types that SageMaker hosts and the table has no row for."""
    return sorted(
        name for name in api["ProductionVariantInstanceType"]["enum"] if ACCELERATED.match(name) and name not in known
    )


def test_every_accelerated_type_that_sagemaker_hosts_has_a_row(api: Any) -> None:
    missing = missing_types(api, set(facts.instances()))

    assert not missing, f"no row in instances.csv for {', '.join(missing)}: run `heavylift facts refresh`"


def test_a_new_type_would_be_named(api: Any) -> None:
    known = set(facts.instances()) - {"ml.g7e.48xlarge"}

    assert missing_types(api, known) == ["ml.g7e.48xlarge"]


def test_all_types_that_are_no_m_c_r_or_t_count_as_accelerated(api: Any) -> None:
    others = {
        name.split(".")[1] for name in api["ProductionVariantInstanceType"]["enum"] if not ACCELERATED.match(name)
    }

    assert {family[0] for family in others} == {"t", "m", "c", "r"}


def test_our_limits_are_the_apis(api: Any) -> None:
    fields = ModelSpec.model_json_schema()["properties"]
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
        accelerator = fact.accelerator
        origins = [] if accelerator is None else [accelerator.memory_origin, accelerator.speed_origin]
        for origin in (fact.origin, fact.price_origin, *origins):
            assert re.fullmatch(r"20\d\d-\d\d-\d\d", origin.date) and origin.url.startswith("https://"), fact.type
        assert (fact.usd_per_hour is None) == (fact.price_how == "unknown"), fact.type
        assert fact.vcpus >= 2 and fact.memory_gib >= 4, fact.type
        assert fact.network_gbps is None or 0 < fact.network_gbps <= (fact.network_burst_gbps or 1e9), fact.type
        assert (fact.accelerators == 0) == (fact.accelerator is None), fact.type
    assert facts.instances()["ml.p5e.48xlarge"].usd_per_hour is None


def test_every_type_has_a_price_row_and_every_source_is_used() -> None:
    cells = [cell for table in TABLES for row in rows(table) for cell in row.values()]

    assert set(facts.prices()) == set(facts.instances())
    assert not [name for name in facts.origins() if cells.count(name) < 2], "a source that nothing refers to"


def test_an_estimate_is_ec2s_price_times_the_familys_factor_and_published_prices_show_that_factor() -> None:
    off = {}
    for name, fact in facts.prices().items():
        if fact.ec2 is None or fact.usd_per_hour is None:
            continue
        expected = estimate(name, fact.ec2)
        assert expected is not None, name
        if fact.how == "estimated":
            assert fact.usd_per_hour == pytest.approx(expected, rel=2e-3), name
        elif abs(fact.usd_per_hour / expected - 1) > 0.005:
            off[name] = fact.usd_per_hour / expected

    assert sum(fact.how == "published" for fact in facts.prices().values()) >= 44
    assert not off


def test_an_old_price_says_that_it_is_stale_on_the_day_it_is_asked() -> None:
    old, unknown = facts.price("ml.inf2.xlarge"), facts.price("ml.p5e.48xlarge")

    assert old.origin.date == "2025-01-31"
    assert old.stale(date(2025, 5, 1)) is None
    assert old.stale(date(2025, 5, 2)) == (
        "the price is 91 days old (fmbench, 2025-01-31; stale after 90): "
        "run `heavylift facts refresh --region us-east-1`"
    )
    assert unknown.stale(date(2030, 1, 1)) is None
    assert facts.price("ml.g5.xlarge", "eu-west-1").how == "unknown"


def test_what_ranks_exchange_is_known_or_estimated_for_every_gpu_that_comes_in_numbers() -> None:
    together = {
        fact.accelerator.name: max(fact.accelerators, 1)
        for fact in facts.instances().values()
        if fact.accelerator is not None and fact.accelerators > 1 and fact.hardware == "gpu"
    }

    silent = [name for name in together if not facts.accelerators()[name].collectives]
    h100 = facts.accelerators()["H100"].collectives[8]
    assert silent == ["K80", "V100"]  # nothing current runs on them
    assert h100.how == "measured" and h100.seconds(1e9, 8) == pytest.approx(19.3e-6 + 1.75 / 329, rel=1e-6)


def test_an_accelerator_computes_in_what_its_generation_has() -> None:
    known = facts.accelerators()

    assert known["A10G"].bf16 and not known["T4"].bf16 and not known["V100"].bf16
    assert known["H100"].operations["fp8"] == 1979e12
    assert "fp32" not in known["B200"].operations and known["B200"].computes("fp32")  # unknown is not absent
    for accelerator in known.values():
        for dtype in ("fp16", "bf16"):
            lacking = precisions()[dtype][accelerator.generation] == "no"
            assert lacking is not accelerator.computes(dtype) or accelerator.name in ("K80", "Gaudi"), accelerator.name


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
