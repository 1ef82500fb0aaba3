"""Fleet files: our form, Mélange's own, profiles in CSV; every fault with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator

from heavylift.errors import InputError
from heavylift.plan.fleet import Bucket, Offer, Problem, solve
from heavylift.plan.fleet.document import FleetFile, MelangeFile, read
from heavylift.plan.fleet.pools import endpoint_config, hosted, pools
from heavylift.plan.fleet.profiles import read_profiles

OURS = {
    "format": "heavylift.fleet/1",
    "requests_per_second": 8,
    "buckets": [
        {"input_tokens": 100, "output_tokens": 25, "share": 0.75},
        {"input_tokens": 1000, "output_tokens": 250, "share": 0.25},
    ],
    "types": {"ml.g5.xlarge": {"at_most": 4, "throughput": [4, 0.5]}, "ml.p4d.24xlarge": {"usd_per_hour": 25.2513}},
}


def written(folder: Path, document: Any) -> Path:
    path = folder / "fleet.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def refused(folder: Path, document: Any) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        read(written(folder, document))
    return tuple(fault.removeprefix(f"{folder}/") for fault in caught.value.faults)


def test_shares_of_a_rate_become_rates(tmp_path: Path) -> None:
    file = read(written(tmp_path, OURS))

    assert isinstance(file, FleetFile)
    assert file.sizes() == (Bucket(100, 25, 6.0), Bucket(1000, 250, 2.0))
    assert file.types["ml.g5.xlarge"].at_most == 4 and file.head_room is None


def test_melanges_own_input_is_answered_at_most_at_its_cost(tmp_path: Path) -> None:
    document = {
        "gpu_info": {
            "small": {"cost": 1.0, "tputs": [[2, 1], [4, 2]]},
            "large": {"cost": 4.0, "tputs": [[16, 16], [32, 16]]},
        },
        "workload_distribution": [[0.25, 0.25], [0.25, 0.25]],
        "total_request_rate": 20.0,
        "slice_factor": 1,
    }

    file = read(written(tmp_path, document))

    assert isinstance(file, MelangeFile)
    fleet = solve(file.problem())
    # by hand: one large serves 16 of the 20 size-free requests (row 2, column 1 at 32), a small one the rest
    assert fleet.usd_per_hour <= 6.0
    assert file.problem().buckets[1].label == "row 1, column 2"


def test_a_ragged_table_is_refused_by_name(tmp_path: Path) -> None:
    document = {
        "gpu_info": {"A": {"cost": 1, "tputs": [[1, 2], [3]]}},
        "workload_distribution": [[0.5, 0.1], [0.2, 0.2]],
        "total_request_rate": 1,
    }

    (fault,) = refused(tmp_path, document)

    assert fault.startswith("fleet.json:1:") and "'gpu_info.A.tputs' is not of the shape" in fault


def test_every_fault_of_a_file_is_said_with_its_place(tmp_path: Path) -> None:
    text = """format: heavylift.fleet/1
buckets:
  - {input_tokens: 0, output_tokens: 25, share: 2}
  - {input_tokens: 10, outputs: 25, share: 0.5}
typs: {}
"""
    faults = refused(tmp_path, text)

    assert any(fault.startswith("fleet.json:3:20: 'buckets[0].input_tokens' must be") for fault in faults)
    assert any("unknown key 'outputs'" in fault for fault in faults)
    assert any(fault.startswith("fleet.json:5:1: unknown key 'typs'; did you mean 'types'?") for fault in faults)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"requests_per_second": None}, "'requests_per_second' is missing: the buckets have shares of it"),
        ({"buckets": [{"input_tokens": 1, "output_tokens": 1}]}, "needs either 'share' or 'requests_per_second'"),
        ({"buckets": [{"input_tokens": 1, "output_tokens": 1, "share": 0.5}]}, "add up to 0.5; they must add up to 1"),
        ({"types": {"ml.g5.xlarge": {"throughput": [1]}}}, "has 1 numbers for 2 buckets"),
        ({"types": {"x": {"at_least": 3, "at_most": 1}}}, "'types.x.at_most' is 1, less than its at_least of 3"),
        ({"head_room": 1}, "'head_room' must be"),
        ({"format": "heavylift.fleet/2"}, "'format' must be 'heavylift.fleet/1'; got 'heavylift.fleet/2'"),
    ],
)
def test_what_fields_must_agree_on(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    faults = refused(tmp_path, {key: value for key, value in {**OURS, **change}.items() if value is not None})

    assert any(fault in sentence for sentence in faults)


def test_profiles_are_read_by_type_and_size(tmp_path: Path) -> None:
    path = tmp_path / "profiles.csv"
    path.write_text(
        "instance_type,usd_per_hour,input_tokens,output_tokens,requests_per_second\n"
        "ml.g5.xlarge,1.408,100,25,4\nml.g5.xlarge,,1000,250,0\n"
    )

    profiles = read_profiles(path)

    assert profiles.of("ml.g5.xlarge", (Bucket(1000, 250, 1), Bucket(100, 25, 1))) == (0.0, 4.0)
    assert profiles.usd_per_hour == {"ml.g5.xlarge": 1.408}
    with pytest.raises(InputError, match=r"no row for ml\.g5\.xlarge at 7 tokens in, 7 out; write 0 where it cannot"):
        profiles.of("ml.g5.xlarge", (Bucket(7, 7, 1),))


def test_every_faulty_row_of_the_profiles_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "profiles.csv"
    path.write_text(
        "instance_type,usd_per_hour,input_tokens,output_tokens,requests_per_second\n"
        "a,1,10,10,1\na,2,10,10,1\n,1,1.5,10,nan\na,x,10,20\n"
    )

    with pytest.raises(InputError) as caught:
        read_profiles(path)

    places = [fault.split(": ", 1)[0].rsplit(":", 1)[1] for fault in caught.value.faults]
    assert places == ["3", "3", "4", "4", "4", "5", "5"]


PROBLEM = Problem(
    (Bucket(100, 25, 6.0), Bucket(1000, 250, 1.0)),
    (
        Offer("ml.g5.xlarge", 1.408, (4.0, 0.2), at_most=2),
        Offer("ml.g6.xlarge", 1.1267, (3.0, 0.0)),
        Offer("ml.g6e.xlarge", 2.6054, (9.0, 2.0)),
        Offer("ml.p4d.24xlarge", 25.2513, (99.0, 9.0)),
    ),
)


def test_a_fleet_is_a_configuration_that_sagemaker_accepts() -> None:
    fleet = solve(PROBLEM)

    document = endpoint_config("llama", PROBLEM, fleet, {"ml.g6e.xlarge": {"ModelDataDownloadTimeoutInSeconds": 600}})

    shape = get_session().get_service_model("sagemaker").operation_model("CreateEndpointConfig").input_shape
    assert not ParamValidator().validate(document, shape).has_errors()
    kinds = shape.members["ProductionVariants"].member.members["InstancePools"].member.members["InstanceType"].enum
    variants = document["ProductionVariants"]
    assert {pool["InstanceType"] for variant in variants for pool in variant["InstancePools"]} <= set(kinds)
    assert sum(variant["InitialVariantWeight"] for variant in variants) == pytest.approx(1)
    assert {v["VariantName"]: v["InitialInstanceCount"] for v in variants} == {
        name.replace(".", "-"): count for name, count in fleet.counts.items()
    }


def test_a_pool_with_another_parallel_plan_has_a_model_of_its_own() -> None:
    models = {"ml.g6e.xlarge": "llama-tp1-pp1-x1", "ml.p4d.24xlarge": "llama-tp8-pp1-x1"}

    document = endpoint_config("llama", PROBLEM, solve(PROBLEM), {}, models)

    variant = next(each for each in document["ProductionVariants"] if each["VariantName"] == "ml-g6e-xlarge")
    assert variant["ModelName"] == "llama-tp1-pp1-x1"
    assert variant["InstancePools"] == [
        {"InstanceType": "ml.g6e.xlarge", "Priority": 1},
        {"InstanceType": "ml.p4d.24xlarge", "Priority": 2, "ModelNameOverride": "llama-tp8-pp1-x1"},
    ]
    shape = get_session().get_service_model("sagemaker").operation_model("CreateEndpointConfig").input_shape
    assert not ParamValidator().validate(document, shape).has_errors()


def test_the_pools_behind_a_type_are_those_whose_same_count_carries_its_load() -> None:
    fleet = solve(PROBLEM)
    served = {part.name: part for part in fleet.types}["ml.g6e.xlarge"]

    assert pools(PROBLEM, fleet, served) == ("ml.g6e.xlarge", "ml.p4d.24xlarge")
    assert hosted(fleet)
    assert not hosted(solve(Problem((Bucket(1, 1, 1.0),), (Offer("A10G", 1.0, (1.0,)),))))
