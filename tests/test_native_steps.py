"""Passes of a few sizes, over inputs that stay: the same tokens as from passes of any size, whoever comes and goes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from heavylift_runtime.native.mesh import Mesh
from heavylift_runtime.native.news import News
from heavylift_runtime.native.replay import Work, again, compiled
from tests.native_cores import Answer, answers_of, arrival, core_of, model_on, run
from tests.rank_threads import on_mesh
from tests.small_models import LIMITS, PROMPTS, SmallModels

MODELS = ["t5", "llama", "bloom", "mistral-window", "mixtral", "opt-350m", "gpt-neox"]


@pytest.fixture(autouse=True)
def _small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that texts of a few tokens grow out of several."""
    torch.set_num_threads(1)
    monkeypatch.setattr("heavylift_runtime.native.steps.LEAST", 8)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallModels:
    return SmallModels(tmp_path_factory.mktemp("models"))


class Recorder:
    """Counts what is recorded, and how often each is replayed."""

    def __init__(self) -> None:
        self.replayed: list[int] = []

    def __call__(self, work: Work) -> Work:
        place = len(self.replayed)
        self.replayed.append(0)

        def replay() -> Tensor:
            self.replayed[place] += 1
            return work()

        return replay


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrives=st.lists(st.integers(0, 25), min_size=6, max_size=6),
    slots=st.integers(1, 7),
    tokens=st.sampled_from([3, 8, 50]),
)
def test_a_few_sizes_give_every_request_the_tokens_of_passes_of_any_size(
    small: SmallModels,
    kind: str,
    arrives: list[int],
    slots: int,
    tokens: int,
) -> None:
    recorder = Recorder()
    core = core_of(small.model(kind), slots=slots, tokens=tokens, record=recorder)
    schedule = {
        step: News(tuple(arrival(key, PROMPTS[key], LIMITS[key]) for key in range(6) if arrives[key] == step))
        for step in set(arrives)
    }

    answers = run(core, schedule)

    assert [answers[key] for key in range(6)] == small.alone(kind)
    assert sum(recorder.replayed) > 5
    assert len(recorder.replayed) < 30


@pytest.mark.parametrize("kind", ["t5", "llama"])
@pytest.mark.parametrize(("tensor", "pipeline"), [(2, 1), (1, 2), (2, 2)])
def test_ranks_and_stages_record_the_same_sizes(small: SmallModels, kind: str, tensor: int, pipeline: int) -> None:
    def serve(mesh: Mesh) -> tuple[list[Answer], list[int]]:
        recorder = Recorder()
        own = model_on(small.folder(kind), mesh.group, stage=mesh.stage)
        return answers_of(core_of(own, mesh=mesh, record=recorder), PROMPTS, LIMITS), recorder.replayed

    ranks = on_mesh(tensor, pipeline, serve)

    assert [answers for answers, _ in ranks] == [small.alone(kind)] * (tensor * pipeline)
    assert all(replayed == ranks[0][1] for _, replayed in ranks) and sum(ranks[0][1]) > 10


def test_a_beam_search_goes_through_them_too(small: SmallModels) -> None:
    found = [
        answers_of(core_of(small.model("t5"), record=record), PROMPTS[:3], [12] * 3, num_beams=3)
        for record in (None, again)
    ]

    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own, at its first import
@pytest.mark.parametrize("kind", ["llama"])  # each takes a minute on a busy machine
def test_torch_compile_takes_a_whole_pass_and_gives_the_same_tokens(
    small: SmallModels,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = small.alone(kind)[0]
    monkeypatch.setattr("heavylift_runtime.native.kernels.calls.library", lambda: None)  # C is no code of PyTorch's
    monkeypatch.setattr("heavylift_runtime.native.steps.LEAST", 64)

    core = core_of(model_on(small.folder(kind)), record=compiled(again))

    assert answers_of(core, PROMPTS[:1], LIMITS[:1]) == [expected]
