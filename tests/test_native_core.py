"""The native engine's core: whoever comes, goes, waits or is pushed out, each request gets its own tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from heavylift_runtime.native.architectures import Model
from heavylift_runtime.native.cache import Store
from heavylift_runtime.native.core import Core
from heavylift_runtime.native.distributed import Alone
from heavylift_runtime.native.lane import Flight
from heavylift_runtime.native.mesh import Mesh
from heavylift_runtime.native.news import Arrival, News
from heavylift_runtime.native.scheduler import Scheduler
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.native_cores import Answer, answers_of, arrival, core_of, model_on, run
from tests.rank_threads import Meeting, ThreadGroup, on_mesh
from tests.small_models import LIMITS, PROMPTS, SmallModels
from tests.t5_checkpoints import edit_tensors, write_t5

MODELS = ["t5", "llama", "bloom", "mistral-window", "mixtral", "opt-350m"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _pages_of_one_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of these models would never need a second page; and they are let in where they may be pushed out again."""
    monkeypatch.setattr(Store, "taken", lambda store, count: store._planes * store._each * count)
    monkeypatch.setattr("heavylift_runtime.native.scheduler.AHEAD", 1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallModels:
    return SmallModels(tmp_path_factory.mktemp("models"))


@st.composite
def schedules(draw: st.DrawFn) -> tuple[dict[int, News], set[int]]:
    """When each of PROMPTS arrives, and which of them are cancelled when."""
    arrives = [draw(st.integers(0, 25)) for _ in PROMPTS]
    leaves = {key: arrives[key] + draw(st.integers(0, 15)) for key in draw(st.sets(st.integers(0, 5), max_size=2))}
    schedule = {}
    for step in {*arrives, *leaves.values()}:
        come = tuple(arrival(key, PROMPTS[key], LIMITS[key]) for key, when in enumerate(arrives) if when == step)
        schedule[step] = News(come, tuple(key for key, when in leaves.items() if when == step))
    return schedule, set(leaves)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    schedule=schedules(),
    slots=st.integers(1, 6),
    tokens=st.sampled_from([3, 8, 50, 256]),
    rows=st.sampled_from([1.0, 1.7, 100.0]),
)
def test_no_arrival_departure_or_lack_of_memory_changes_what_another_gets(
    small: SmallModels,
    kind: str,
    schedule: tuple[dict[int, News], set[int]],
    slots: int,
    tokens: int,
    rows: float,
) -> None:
    core = core_of(small.model(kind), slots=slots, tokens=tokens)
    widest = max(
        map(core.scheduler.most, (core.sequence(arrival(0, *each)) for each in zip(PROMPTS, LIMITS, strict=True)))
    )
    core = core_of(small.model(kind), slots=slots, tokens=tokens, budget=int(widest * rows))

    answers = run(core, schedule[0])

    assert set(answers) >= set(range(6)) - schedule[1]
    for key, answer in answers.items():
        assert answer == small.alone(kind)[key], key


@pytest.mark.parametrize("kind", MODELS[:-1])  # the last one says little and ends early
def test_who_is_pushed_out_goes_on_where_it_was(small: SmallModels, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = []
    preempt = Scheduler.preempt

    def noted(scheduler: Scheduler) -> Any:
        youngest = preempt(scheduler)
        pushed.append(youngest.generated)
        return youngest

    monkeypatch.setattr(Scheduler, "preempt", noted)
    core = core_of(small.model(kind))
    widest = core.scheduler.most(core.sequence(arrival(4, PROMPTS[4], LIMITS[4])))

    answers = answers_of(core_of(small.model(kind), slots=6, budget=3 * widest // 2), PROMPTS, LIMITS)

    assert answers == small.alone(kind)
    assert any(pushed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "llama", "mixtral"])
@pytest.mark.parametrize(("tensor", "pipeline"), [(2, 1), (1, 2), (2, 2)])
def test_every_rank_takes_the_same_decisions(small: SmallModels, kind: str, tensor: int, pipeline: int) -> None:
    schedule = {
        step: News((arrival(step, PROMPTS[step], LIMITS[step]),), (1,) if step == 4 else ()) for step in range(6)
    }

    def rank(mesh: Mesh) -> dict[int, Answer]:
        model = model_on(small.folder(kind), mesh.group, stage=mesh.stage)
        return run(core_of(model, slots=3, tokens=10, budget=60000 * pipeline, mesh=mesh), schedule)

    first, *others = on_mesh(tensor, pipeline, rank)

    assert all(first == other for other in others)
    for key, answer in first.items():
        assert (
            answer.tokens == small.alone(kind)[key].tokens or kind == "mixtral"
        )  # rounding may decide a tie between experts


def bits_of(model: Model, schedule: dict[int, News], **settings: Any) -> dict[int, list[Tensor]]:
    """The logits behind each token of each request, in the mode that depends on no company."""
    core, seen = core_of(model, invariant=True, **settings), dict[int, list[Tensor]]()
    original = core._end

    def end(flight: Flight, given: list[Tensor]) -> Any:
        passes = zip(given, flight.passes, strict=False)
        parts = [model.vocabulary.scores(part)[each.kept] for part, each in passes if each.kept]
        for sequence, row in zip(flight.wanting, torch.cat(parts) if parts else [], strict=True):
            seen.setdefault(sequence.key, []).append(row.clone())
        return original(flight, given)

    core._end = end  # type: ignore[method-assign]
    run(core, schedule)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=schedules(), slots=st.integers(1, 6), narrow=st.booleans())
def test_where_it_is_asked_for_every_bit_is_the_same_in_any_company(
    small: SmallModels, kind: str, schedule: tuple[dict[int, News], set[int]], slots: int, narrow: bool
) -> None:
    each = [News((arrival(key, PROMPTS[key], LIMITS[key]),)) for key in range(6)]
    alone = [bits_of(small.model(kind), {0: news}, tokens=16)[key] for key, news in enumerate(each)]
    core = core_of(small.model(kind))
    budget = core.scheduler.most(core.sequence(each[4].arrived[0])) * (1 if narrow else 100)

    found = bits_of(small.model(kind), schedule[0], slots=slots, tokens=16, budget=budget)

    for key, logits in found.items():
        assert len(logits) == len(alone[key]) or key in schedule[1]
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(logits, alone[key], strict=False)), key


class Cramped:
    """A model that finds no memory for passes of many tokens."""

    def __init__(self, model: Any, most: int) -> None:
        self._model, self._most = model, most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, sources: Any, x: Tensor | None = None, part: int = 0, parts: int = 1) -> Tensor:
        if part == parts - 1:
            self._take(sum(len(source.tokens) for source in sources))
        hidden: Tensor = self._model.encode(sources, x, part, parts)
        return hidden

    def forward(self, batch: Any, stores: Any, x: Tensor | None = None) -> Tensor:
        self._take(len(batch.tokens))
        hidden: Tensor = self._model.forward(batch, stores, x)
        return hidden

    def _take(self, tokens: int) -> None:
        if tokens > self._most:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )


@pytest.mark.parametrize(("kind", "most", "tokens"), [("t5", 42, 256), ("t5", 40, 16), ("llama", 42, 256)])
def test_when_memory_runs_out_one_request_ends_with_a_sentence_and_the_others_go_on(
    small: SmallModels, kind: str, most: int, tokens: int
) -> None:
    core: Core = core_of(Cramped(small.model(kind), most), slots=6, tokens=tokens)
    arrivals: list[Arrival] = [arrival(key, *each) for key, each in enumerate(zip(PROMPTS, LIMITS, strict=True))]
    news, said, errors = News(tuple(arrivals)), {key: list[int]() for key in range(6)}, {}

    with torch.inference_mode():
        while core.busy or news.arrived:
            for progress in core.step(news):
                said[progress.sequence.key] += [chosen.token for chosen in progress.chosen]
                if progress.error is not None:
                    errors[progress.sequence.key] = progress.error
            news = News()

    assert errors and all(code == 507 and "memory ran out" in sentence for code, sentence in errors.values())
    assert len(errors) < 6
    for key in set(range(6)) - set(errors):
        assert said[key] == small.alone(kind)[key].tokens


def test_another_failure_is_not_taken_for_a_lack_of_memory(small: SmallModels) -> None:
    core = core_of(Cramped(small.model("llama"), 0), mesh=Mesh(ThreadGroup(0, Meeting(2)), Alone()))

    with pytest.raises(RuntimeError, match="can't allocate"):
        answers_of(core, PROMPTS[:1], LIMITS[:1])


NUMBERLESS = 424, "the model computes no numbers for this prompt (NaN): its weights are damaged"


@pytest.mark.parametrize(("kind", "degrees"), [("t5", (1, 1)), ("llama", (1, 1)), ("llama", (2, 1)), ("bloom", (1, 2))])
def test_a_prompt_for_which_the_model_has_no_numbers_is_told_so_and_the_others_are_served(
    tmp_path: Path, kind: str, degrees: tuple[int, int]
) -> None:
    folder, name = damaged(tmp_path, kind)
    good, spoilt = [7, 8, 9, 1], [7, 5, 9, 1]
    (wanted,) = answers_of(core_of(model_on(folder)), [good], [9])
    edit_tensors(folder, lambda tensors: tensors | {name: tensors[name].index_fill(0, torch.tensor([5]), torch.nan)})
    ways: list[dict[str, Any]] = [{}, {"temperature": 0.7}, {"temperature": 0.7, "top_k": 5}, {"logprobs": 2}]
    ways += [{"temperature": 0.7, "min_p": 0.1, "logprobs": 2}, {"num_beams": 2}]

    def serve(mesh: Mesh) -> list[dict[int, tuple[list[int], object]]]:
        core = core_of(model_on(folder, mesh.group, stage=mesh.stage), mesh=mesh)
        return [told(core, [arrival(1, good, 9), arrival(2, spoilt, 9, **way), arrival(3, good, 9)]) for way in ways]

    ranks = on_mesh(*degrees, serve)

    for found in ranks:
        for answers in found:
            assert answers[1] == answers[3] == (wanted.tokens, None)
            tokens, error = answers[2]
            assert tokens == [] and isinstance(error, tuple)
            assert error[0] == NUMBERLESS[0] and error[1].startswith(NUMBERLESS[1])


@pytest.mark.parametrize("degrees", [(1, 1), (2, 1), (1, 2)])
def test_an_answer_whose_numbers_are_lost_on_the_way_ends_there_with_an_error(
    tmp_path: Path, degrees: tuple[int, int]
) -> None:
    folder, name = damaged(tmp_path, "llama")
    prompts = [[number, 8, 9, 1] for number in range(10, 40)]
    sound = [answer.tokens for answer in answers_of(core_of(model_on(folder)), prompts, [9] * len(prompts))]
    bad, place = next(  # whose token there is the first of its kind, and none that a prompt could have
        (prompt, place)
        for prompt, said in zip(prompts, sound, strict=True)
        for place, token in enumerate(said[:-1])
        if place > 0 and token not in (1, *range(8, 40), *said[:place])
    )
    wanted = sound[prompts.index(bad)][: place + 1]
    good = next(prompt for prompt, said in zip(prompts, sound, strict=True) if wanted[-1] not in said)
    row = torch.tensor(wanted[-1:])
    edit_tensors(folder, lambda tensors: tensors | {name: tensors[name].index_fill(0, row, torch.nan)})
    ways: list[dict[str, Any]] = [{}, {"logprobs": 2}, {"repetition_penalty": 1.0001}]
    ways += [{"temperature": 1e-4, **more} for more in ({}, {"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1})]

    def serve(mesh: Mesh) -> list[dict[int, tuple[list[int], object]]]:
        core = core_of(model_on(folder, mesh.group, stage=mesh.stage), mesh=mesh)
        return [told(core, [arrival(1, good, 9), arrival(2, bad, 9, **way)]) for way in ways]

    for found in on_mesh(*degrees, serve):
        for answers in found:
            assert answers[1] == (sound[prompts.index(good)], None)
            tokens, error = answers[2]
            assert tokens == wanted and isinstance(error, tuple)
            assert error[0] == NUMBERLESS[0] and error[1].startswith(NUMBERLESS[1])


def damaged(folder: Path, kind: str) -> tuple[Path, str]:
    """A checkpoint, and the name of its embedding."""
    if kind == "t5":
        return write_t5(folder), "shared.weight"
    family, config = KINDS[kind]
    name = "model.embed_tokens.weight" if kind == "llama" else "transformer.word_embeddings.weight"
    return write_decoder(folder, family, **config), name


def told(core: Core, arrivals: list[Arrival]) -> dict[int, tuple[list[int], object]]:
    """Each one's tokens, and its error."""
    found: dict[int, tuple[list[int], object]] = {each.key: ([], None) for each in arrivals}
    news = News(tuple(arrivals))
    with torch.inference_mode():
        while core.busy or news.arrived:
            for progress in core.step(news):
                tokens, _ = found[progress.sequence.key]
                found[progress.sequence.key] = [*tokens, *(each.token for each in progress.chosen)], progress.error
            news = News()
    return found
