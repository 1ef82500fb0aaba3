"""Timeouts, volume and machine image, against botocore's limits and the table of types with NVMe storage."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from hypothesis import given
from hypothesis import strategies as st

from heavylift.plan import facts, times
from heavylift.plan.images import RUNTIME_CUDA, ami_for, amis

ROOT = Path(__file__).resolve().parent.parent
NVME = "g4dn g5 g6 g6e g7 g7e p4d p4de p5 p5e p5en p6-b200 p6-b300 p6e-gb200 trn1 trn1n trn2 dl1".split()
EBS = "p2 p3 inf1 inf2 c5 c6i c7i m5 m6i m7i".split()


@pytest.fixture(scope="module")
def api() -> Any:
    """The shapes of SageMaker's API, as botocore ships them."""
    return Loader().load_service_model("sagemaker", "service-2")["shapes"]


def test_the_limits_are_the_apis(api: Any) -> None:
    for shape in (
        "ProductionVariantModelDataDownloadTimeoutInSeconds",
        "ProductionVariantContainerStartupHealthCheckTimeoutInSeconds",
    ):
        assert (api[shape]["min"], api[shape]["max"]) == (times.SHORTEST, times.LONGEST)
    assert api["ProductionVariantVolumeSizeInGB"]["max"] == times.LARGEST_VOLUME


def test_a_type_has_a_local_disk_exactly_as_its_family() -> None:
    families = {name.split(".")[1] for name in facts.instances()}

    assert families == set(NVME) | set(EBS)
    for name, fact in facts.instances().items():
        assert fact.nvme is (name.split(".")[1] in NVME), name


@given(size=st.integers(0, 2 * 10**12), name=st.sampled_from(sorted(facts.instances())))
def test_more_bytes_never_shorten_a_timeout(size: int, name: str) -> None:
    fact = facts.instances()[name]

    less, more = times.health_timeout(size, size, fact), times.health_timeout(2 * size, 2 * size, fact)

    assert 60 <= less.value <= more.value <= 3600
    assert less.over is (times.download_seconds(size, fact) + size / 1e9 + 30 > 3600)


def test_an_estimate_beyond_an_hour_names_what_takes_most_of_it() -> None:
    slow = times.health_timeout(700 * 10**9, 700 * 10**9, facts.instances()["ml.g5.xlarge"])

    assert slow.over and slow.value == 3600
    assert "the download takes most of it" in slow.why
    assert slow.mend.startswith("the download alone takes 3733 s: take a type with more network")


def test_a_type_that_bursts_is_planned_with_what_it_has_always() -> None:
    g5, unknown = facts.instances()["ml.g5.xlarge"], facts.instances()["ml.p2.xlarge"]

    assert (g5.network_gbps, g5.network_burst_gbps) == (2.5, 10)
    assert times.bandwidth(g5) == pytest.approx(2.5e9 / 8 * 0.6)
    assert unknown.network_gbps is None and 0 < times.bandwidth(unknown) < times.bandwidth(g5)


def test_the_network_is_not_faster_than_s3() -> None:
    assert times.bandwidth(facts.instances()["ml.p5.48xlarge"]) == times.S3_BYTES_PER_SECOND


def test_an_engine_that_compiles_gets_its_time() -> None:
    fact = facts.instances()["ml.g5.xlarge"]

    assert times.health_timeout(0, 0, fact, "vllm").value > times.health_timeout(0, 0, fact, "native").value


def test_the_machine_images_are_the_apis(api: Any) -> None:
    assert {ami.version for ami in amis()} == set(api["ProductionVariantInferenceAmiVersion"]["enum"])


def test_the_containers_cuda_is_its_base_images() -> None:
    base = re.search(r"nvidia/cuda:(\d+\.\d+)", (ROOT / "container" / "Dockerfile.gpu").read_text())

    assert base is not None and float(base[1]) == RUNTIME_CUDA


@pytest.mark.parametrize(
    ("name", "cuda", "version"),
    [
        ("ml.c6i.xlarge", 12.6, None),
        ("ml.g5.xlarge", 12.1, "al2-ami-sagemaker-inference-gpu-2"),
        ("ml.g5.xlarge", 12.4, "al2-ami-sagemaker-inference-gpu-3-1"),
        ("ml.g5.xlarge", 12.6, "al2023-ami-sagemaker-inference-gpu-4-1"),
        ("ml.p6-b200.48xlarge", 12.1, "al2023-ami-sagemaker-inference-gpu-4-1"),
        ("ml.g7e.2xlarge", 12.1, "al2023-ami-sagemaker-inference-gpu-4-1"),
        ("ml.inf2.xlarge", 12.6, "al2-ami-sagemaker-inference-neuron-2"),
        ("ml.p2.xlarge", 12.6, None),
        ("ml.g5.xlarge", 14.0, None),
    ],
)
def test_the_oldest_image_that_runs_the_containers_cuda_is_taken(name: str, cuda: float, version: str | None) -> None:
    found, why = ami_for(facts.instances()[name], cuda)

    assert found == version and why


def test_a_volume_beyond_sagemakers_largest_says_how_to_mend_it() -> None:
    most = times.volume(int(482 / 1.15 * 1e9))
    over = times.volume(int(483 / 1.15 * 1e9) + 10**9)

    assert (most.value, most.over) == (512, False)
    assert (over.value, over.over) == (512, True) and "NVMe" in over.mend


def test_what_is_unknown_of_the_network_is_not_taken_for_nothing() -> None:
    fact = replace(facts.instances()["ml.g5.xlarge"], network_gbps=None, network_burst_gbps=None)

    assert times.bandwidth(fact) == pytest.approx(10e9 / 8 / 8 * 0.6)
