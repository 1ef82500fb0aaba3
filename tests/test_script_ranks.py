"""A user's model.py that computes with torch.distributed on the ranks of MPI mode: real processes over gloo.

Ranks of engines are others' tests; which GPUs a rank sees is test_devices.py's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import torch

from tests.served import Served, eventually, kill, serving, write_script

pytestmark = pytest.mark.slow

# a linear layer whose columns are split over the ranks, as scripts of 2023 wrote their own tensor parallelism
SPLIT = """
import logging
import os
import signal
import torch
import torch.distributed as dist
from djl_python import Input, Output

layer = None

def load_model(properties):
    tensor_parallel = properties["tensor_parallel_degree"]
    local_rank = int(os.getenv("LOCAL_RANK", "0"))
    dist.init_process_group(backend="nccl" if torch.cuda.is_available() else "gloo")
    logging.info(f"Loading rank {local_rank} of {tensor_parallel}")
    torch.manual_seed(1234)
    whole = torch.randn(4, 8, dtype=torch.float64)
    return whole.chunk(tensor_parallel, dim=1)[dist.get_rank()]

def stream(rows):
    for row in rows:
        share = row[dist.get_rank()::dist.get_world_size()].sum()
        dist.all_reduce(share)
        yield share.item()

def handle(inputs: Input):
    global layer
    if layer is None:
        layer = load_model(inputs.get_properties())
    if inputs.is_empty():
        dist.barrier()
        return None
    outputs = Output()
    for number, item in enumerate(inputs.get_batches()):
        body = item.get_as_json()
        if body.get("die") == dist.get_rank():
            os.kill(os.getpid(), signal.SIGKILL)
        if body.get("exit") == dist.get_rank():
            os._exit(5)
        if "raise" in body:
            if body["raise"] == dist.get_rank():
                raise ValueError("the tea is cold")
            return outputs.add("warm")
        if body.get("environment"):
            names = [name for name in os.environ if name.startswith("OMPI_") or name.endswith(("RANK", "WORLD_SIZE"))]
            found = [None] * dist.get_world_size()
            dist.all_gather_object(found, {name: os.environ[name] for name in sorted(names)} | {"pid": os.getpid()})
            return outputs.add_as_json(found)
        rows = torch.tensor(body["inputs"], dtype=torch.float64)
        if body.get("stream"):
            outputs.add_property("content-type", "application/jsonlines")
            return outputs.add_stream_content(stream(rows))
        part = rows @ layer
        every = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(every, part)
        answer = torch.cat(every, dim=1)
        outputs.add_as_json({"outputs": answer, "rank": dist.get_rank()}, key=inputs.get_content().key_at(number))
    return outputs
"""
WORLD = 2
PROPERTIES = f"engine=MPI\noption.tensor_parallel_degree={WORLD}\nbatch_size=4\nmax_batch_delay=1\nretry_threshold=50\n"
ROWS = [[1.0, 0.0, 0.0, 2.0], [0.5, -1.0, 3.0, 0.0]]


def expected(rows: list[list[float]]) -> list[Any]:
    """What one process alone makes of them, nearly."""
    torch.manual_seed(1234)
    whole = torch.randn(4, 8, dtype=torch.float64)
    return [pytest.approx(row, abs=1e-12) for row in (torch.tensor(rows, dtype=torch.float64) @ whole).tolist()]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(write_script(tmp_path_factory.mktemp("ranks") / "model", SPLIT, PROPERTIES)) as served:
        yield served


def answer(served: Served) -> list[list[float]]:
    reply = served.ask({"inputs": ROWS})
    assert reply.status_code == 200, reply.text
    assert reply.json()["rank"] == 0
    outputs: list[list[float]] = reply.json()["outputs"]
    return outputs


def test_a_rank_has_the_environment_that_mpirun_and_torchrun_give(served: Served) -> None:
    found = served.ask({"environment": True}).json()

    assert sorted(each.pop("pid") for each in found) == sorted(served.ranks())
    for rank, environment in enumerate(found):
        here = {name: value for name, value in environment.items() if "RANK" in name and "NODE" not in name}
        assert (
            here.items()
            >= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "OMPI_COMM_WORLD_RANK": str(rank),
                "OMPI_COMM_WORLD_LOCAL_RANK": str(rank),
            }.items()
        )
        assert (environment["WORLD_SIZE"], environment["OMPI_COMM_WORLD_SIZE"]) == (str(WORLD), str(WORLD))
        assert environment["OMPI_COMM_WORLD_LOCAL_SIZE"] == str(WORLD)


def test_columns_that_are_split_over_the_ranks_give_the_whole_layers_answer(served: Served) -> None:
    assert answer(served) == expected(ROWS)


def test_a_stream_of_several_ranks_is_rank_0s(served: Served) -> None:
    with httpx.stream("POST", f"{served.address}/invocations", json={"inputs": ROWS, "stream": True}) as reply:
        lines = [json.loads(line)["outputs"] for line in reply.iter_lines() if line]

    assert lines == [3.0, 2.5]


def test_what_rank_0_raises_is_the_answer_and_what_another_raises_is_nobodys(served: Served) -> None:
    before = served.ranks()
    first, second = served.ask({"raise": 0}), served.ask({"raise": 1})

    assert (first.status_code, first.json()["error"]) == (424, "the script failed: ValueError: the tea is cold")
    assert (second.status_code, second.text) == (200, "warm")
    assert served.ranks() == before
    assert answer(served) == expected(ROWS)


@pytest.mark.parametrize("how", ["die", "exit"])
@pytest.mark.parametrize("rank", range(WORLD))
def test_a_rank_that_ends_in_a_request_is_an_error_and_all_ranks_come_back(served: Served, how: str, rank: int) -> None:
    before = served.wait().ranks()

    lost = served.ask({how: rank, "inputs": ROWS})
    eventually(lambda: not {*before} & {*served.ranks()})
    served.wait()

    assert lost.status_code == 424
    assert answer(served) == expected(ROWS)


def test_a_rank_that_is_killed_between_requests_takes_its_copy_with_it_and_requests_meanwhile_are_refused(
    served: Served,
) -> None:
    before = served.wait().ranks()
    kill(before[1])
    refused = []

    def answered() -> bool:
        reply = served.ask({"inputs": ROWS})
        if reply.status_code != 200:
            refused.append((reply.status_code, reply.json()["error"]))
        return reply.status_code == 200 and not {*served.ranks()} & {*before}

    eventually(answered)

    assert {code for code, _ in refused} <= {424, 503}
    assert answer(served) == expected(ROWS)
