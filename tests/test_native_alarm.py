"""Memory that runs out on one of several ranks, for real: one request is refused, the others go on, no rank ends."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from heavylift_runtime.native.alarm import Interrupted
from heavylift_runtime.native.core import Core
from heavylift_runtime.native.mesh import Mesh
from heavylift_runtime.native.news import News, hear, tell
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.native_cores import answers_of, arrival, core_of, model_on
from tests.rank_pool import Pool
from tests.t5_checkpoints import write_t5

pytestmark = pytest.mark.slow

LIMITS = [30, 24, 9, 17]
PROMPTS = [[7, 8, 9, 1], [11, 5, 3, 44, 8, 1], [21, 1], [33, 34, 35, 36, 37, 1]]
DEGREES = [(2, 1), (1, 2), (2, 2), (1, 3)]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = Pool(4, tmp_path_factory.mktemp("pool"))
    yield pool
    pool.close()


class Short:
    """A model, or its vocabulary, for which there is no memory now and then: it asks for more than it may have."""

    def __init__(self, model: Any, where: dict[str, set[int]]) -> None:
        """`where`: of each method the calls before which there is none, and, below zero, those after which."""
        self._model, self._where = model, where
        self._calls = dict.fromkeys(where, 0)
        if hasattr(model, "vocabulary"):
            self.vocabulary = Short(model.vocabulary, where)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if name not in self._where:
            return found

        def called(*arguments: Any) -> Any:
            self._calls[name] += 1
            if self._calls[name] in self._where[name]:
                exhausted()
            given = found(*arguments)
            if -self._calls[name] in self._where[name]:
                exhausted()
            return given

        return called


def exhausted() -> None:
    """Asks for memory that this process may not have, and gets torch's own error."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 26), before[1]))
    try:
        torch.empty(1 << 28)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def answered(
    mesh: Mesh, folder: str, where: dict[str, set[int]], who: int, sampling: dict[str, Any]
) -> tuple[dict[int, list[int]], dict[int, str], dict[int, tuple[int, str]]]:
    """On every rank: all prompts, rank `who` short of memory; tokens, reasons and errors, as rank 0 has them."""
    model = model_on(Path(folder), mesh.group, stage=mesh.stage)
    core: Core = core_of(Short(model, where if mesh.everyone.rank == who else {}), slots=8, tokens=16, mesh=mesh)
    arrived = [arrival(key, *each, **sampling) for key, each in enumerate(zip(PROMPTS, LIMITS, strict=True))]
    said: dict[int, list[int]] = {key: [] for key in range(len(PROMPTS))}
    reasons: dict[int, str] = {}
    errors: dict[int, tuple[int, str]] = {}
    if mesh.everyone.rank > 0:
        follow(core, mesh)
        return said, reasons, errors
    while core.busy or core.again or arrived:
        news, arrived = News((*core.again, *arrived[:2])), arrived[2:]
        core.know(news)
        try:
            tell(mesh.everyone, news, busy=core.busy)
        except Interrupted as error:
            progress = core.recover(error)
        else:
            progress = core.step(news)
        for each in progress:
            key = each.sequence.key
            assert key not in reasons and key not in errors, "an answer goes on after its end"
            said[key] += [chosen.token for chosen in each.chosen]
            if each.error is not None:
                errors[key] = each.error
            if each.finish_reason is not None:
                reasons[key] = each.finish_reason
    tell(mesh.everyone, None, busy=False)
    return said, reasons, errors


def follow(core: Core, mesh: Mesh) -> None:
    while True:
        try:
            news = hear(mesh.everyone, busy=core.busy)
        except Interrupted as error:
            core.recover(error)
            continue
        if news is None:
            return
        core.step(news)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {"t5": tmp_path_factory.mktemp("t5") / "model", "llama": tmp_path_factory.mktemp("llama") / "model"}
    write_t5(made["t5"], num_layers=3, num_decoder_layers=3)
    family, config = KINDS["llama"]
    write_decoder(made["llama"], family, **config | {"num_hidden_layers": 3})
    return made


PLACES = {
    "in the middle of a prompt": {"forward": {2}},
    "in the middle of a token": {"forward": {7}},
    "three times": {"forward": {1, 4, 9}},
    "after the last sum": {"forward": {-5}},
    "for the head's numbers": {"greedy": {3, 5}},
    "after the last exchange": {"greedy": {-4}},
}
OF_SOURCES = {
    "for a source": {"encode": {2}},
    "after a source": {"encode": {-3}},
    "for what is looked at of a source": {"remember": {2}},
}


CASES = [*(("llama", place) for place in PLACES), *(("t5", place) for place in PLACES | OF_SOURCES)]


@pytest.mark.parametrize(
    "kind, place, tensor, pipeline",
    [
        (*case, *degrees)
        for number, case in enumerate(CASES)
        for degrees in (DEGREES[number % 2], DEGREES[2 + number // 2 % 2])
    ],
)
def test_one_request_is_refused_and_the_others_get_their_own_tokens(
    pool: Pool, folders: dict[str, Path], kind: str, place: str, tensor: int, pipeline: int
) -> None:
    where = (PLACES | OF_SOURCES)[place]
    alone = answers_of(core_of(model_on(folders[kind]), slots=8), PROMPTS, LIMITS)

    for who in range(tensor * pipeline):
        said, reasons, errors = pool.run(tensor, pipeline, answered, str(folders[kind]), where, who, {})[0]

        assert len(errors) <= sum(map(len, where.values())) < len(alone)
        for key, expected in enumerate(alone):
            if key in errors:
                assert errors[key][0] == 507 and said[key] == expected.tokens[: len(said[key])]
            else:
                assert (said[key], reasons[key]) == (expected.tokens, expected.finish_reason)


def several(
    mesh: Mesh, folder: str, where: list[dict[str, set[int]]], sampling: dict[str, Any]
) -> tuple[dict[int, list[int]], dict[int, str], dict[int, tuple[int, str]]]:
    """`answered` with each rank short in its own places."""
    return answered(mesh, folder, where[mesh.everyone.rank], mesh.everyone.rank, sampling)


@pytest.mark.parametrize("seed", range(6))
def test_ranks_that_run_out_at_several_places_at_once_come_together_each_time(
    pool: Pool, folders: dict[str, Path], seed: int
) -> None:
    dice = Random(seed)
    kind, (tensor, pipeline) = dice.choice(["llama", "t5"]), dice.choice([(2, 1), (1, 2), (2, 2)])
    ways: list[dict[str, Any]] = [{}, {"temperature": 1.0, "seed": 5}, {"num_beams": 2}]
    sampling = ways[seed % 3]
    names = ["forward", "greedy", "scores", "logits"] + (["encode", "remember"] if kind == "t5" else [])
    where = [
        {name: {dice.choice([-1, 1]) * dice.randint(1, 20)} for name in dice.sample(names, 2)}
        for _ in range(tensor * pipeline)
    ]
    alone = answers_of(core_of(model_on(folders[kind]), slots=8), PROMPTS, LIMITS, **sampling)

    said, reasons, errors = pool.run(tensor, pipeline, several, str(folders[kind]), where, sampling)[0]

    for key, expected in enumerate(alone):
        if key in errors:
            assert errors[key][0] == 507 and said[key] == expected.tokens[: len(said[key])]
        else:
            assert (said[key], reasons[key]) == (expected.tokens, expected.finish_reason)
