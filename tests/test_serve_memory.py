"""A server of two ranks, one of which the kernel gives no more memory: one request is refused, and that is all."""

from __future__ import annotations

import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.served import alive, serving, write_native

pytestmark = pytest.mark.slow

ANSWERS = {"write in words: 298": "two hundred and ninety-eight", "write in words: 30": "thirty"}
SPARE, LONG = 8 << 20, 4000
"""Bytes that the rank may still take, and tokens of a source: its attention takes 128 MiB at once, which are a mapping
of their own, whatever the heap still has."""


def limit(pid: int, spare: int | None) -> None:
    """Of a process's address space; None: none."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[0])
    most = resource.RLIM_INFINITY if spare is None else pages * resource.getpagesize() + spare
    resource.prlimit(pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def long_text(folder: Path, tokens: int) -> str:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "write in words: " + "298 " * tokens
    while len(tokenizer.encode(text).ids) > tokens:
        text = text[: len(text) * 9 // 10]
    return text


@pytest.mark.parametrize("degree", ["tensor", "pipeline"])
@pytest.mark.parametrize("short", [0, 1])
def test_a_rank_without_memory_costs_one_request_and_no_rank_is_started_anew(
    tiny_t5: Path, tmp_path: Path, degree: str, short: int
) -> None:
    properties = f"option.{degree}_parallel_degree=2\nbatch_size=8\noption.max_model_len=4096\n"
    folder = write_native(tiny_t5, tmp_path / "model", properties)
    text = long_text(folder, LONG)
    with serving(folder) as served, ThreadPoolExecutor(8) as clients:
        ranks = served.ranks()
        for prompt, answer in ANSWERS.items():
            assert served.ask({"inputs": prompt}).json()["outputs"] == [answer]

        limit(ranks[short], SPARE)
        others = [(answer, clients.submit(served.ask, {"inputs": prompt})) for prompt, answer in ANSWERS.items()] * 3
        refused = served.ask({"inputs": text, "parameters": {"max_new_tokens": 2}})
        after = served.ask({"inputs": list(ANSWERS)})

        assert refused.status_code == 507
        assert "memory ran out while this request was computed" in refused.text
        for answer, other in others:
            assert other.result().json()["outputs"] == [answer]
        assert after.json()["outputs"] == list(ANSWERS.values())
        limit(ranks[short], None)
        assert served.ask({"inputs": text, "parameters": {"max_new_tokens": 2}}).status_code == 200
        assert served.ranks() == ranks and all(map(alive, ranks))
        assert served.ping() == 200
