"""Guesses before a pass: the answers are, bit for bit, those without, and a pass brings several of their tokens."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from heavylift_runtime.engines import native
from heavylift_runtime.engines.cores import SMALL
from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.engines.native import load
from heavylift_runtime.errors import LoadError
from heavylift_runtime.native import wish
from heavylift_runtime.native.architectures import Model
from heavylift_runtime.native.drafts import AGAIN, ANEW, COPIES, MOST, Drafts, Share
from heavylift_runtime.native.kernels import library
from heavylift_runtime.native.linear import is_drafting
from heavylift_runtime.native.mesh import Mesh
from heavylift_runtime.native.news import News
from heavylift_runtime.native.repeats import LONGEST, Repeats
from heavylift_runtime.native.sequence import Sequence
from heavylift_runtime.native.vocabulary import Vocabulary
from heavylift_runtime.native.wish import Wish
from heavylift_runtime.options import Options
from tests.native_cores import Answer, answers_of, arrival, core_of, model_on, replies_of, run
from tests.rank_threads import on_mesh
from tests.small_models import LIMITS, PROMPTS, SmallModels

pytestmark = pytest.mark.skipif(
    library.why() is not None, reason=f"no kernels on this machine, and no guesses without: {library.why()}"
)
MODELS = ["t5", "llama", "bloom", "mistral-window", "mixtral", "opt-350m"]
TINY = Path(__file__).parents[1] / "models"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallModels:
    return SmallModels(tmp_path_factory.mktemp("models"))


def passes(monkeypatch: pytest.MonkeyPatch, model: Model) -> list[int]:
    """Grows by the tokens of each pass that is no guess."""
    forward, seen = type(model).forward, list[int]()

    def counted(self: Any, batch: Any, *given: Any) -> Tensor:
        if not is_drafting():
            seen.append(len(batch.tokens))
        return forward(self, batch, *given)

    monkeypatch.setattr(type(model), "forward", counted)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    length=st.integers(1, MOST - 1),
    copied=st.booleans(),
    slots=st.integers(1, 6),
    tokens=st.sampled_from([3, 8, 256]),
    arrives=st.lists(st.integers(0, 12), min_size=len(PROMPTS), max_size=len(PROMPTS)),
)
def test_answers_are_those_without_guesses_whoever_comes_when(
    small: SmallModels, kind: str, length: int, copied: bool, slots: int, tokens: int, arrives: list[int]
) -> None:
    schedule = {
        step: News(tuple(arrival(key, PROMPTS[key], LIMITS[key]) for key, when in enumerate(arrives) if when == step))
        for step in set(arrives)
    }

    core = core_of(small.model(kind), slots=slots, tokens=tokens, drafted=length, copied=copied)
    answers = run(core, schedule)

    assert [answers[key] for key in range(len(PROMPTS))] == small.alone(kind)


@pytest.mark.parametrize("kind", ["t5", "llama", "mixtral"])
@pytest.mark.parametrize(
    ("dtype", "quantize"),
    [("bfloat16", "none"), ("bfloat16", "int8"), ("float32", "int8"), ("bfloat16", "dynamic_int8")],
)
def test_shorter_and_rounded_weights_give_the_same_tokens_with_guesses_too(
    small: SmallModels, kind: str, dtype: str, quantize: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_on(small.folder(kind), dtype=getattr(torch, dtype), quantize=quantize)
    limits, seen = [60] * len(PROMPTS), passes(monkeypatch, model)
    plain = answers_of(core_of(model, slots=2), PROMPTS, limits, ignore_eos=True)
    without = len(seen)

    found = answers_of(core_of(model, slots=2, drafted=5), PROMPTS, limits, ignore_eos=True)

    assert found == plain
    assert len(seen) - without < without  # these texts repeat themselves


@pytest.mark.parametrize("kind", MODELS)
def test_wrong_guesses_change_nothing(small: SmallModels, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guess, turn = Vocabulary.guess, [0]

    def mostly_wrong(self: Vocabulary, hidden: Tensor) -> Tensor:
        turn[0] += 1
        return guess(self, hidden) if turn[0] % 3 else torch.full((len(hidden),), 7)

    monkeypatch.setattr(Vocabulary, "guess", mostly_wrong)

    answers = answers_of(core_of(small.model(kind), slots=2, drafted=3, copied=True), PROMPTS, LIMITS)

    assert answers == small.alone(kind)


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_a_pass_brings_several_tokens(small: SmallModels, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_on(TINY / f"tiny-{kind}")
    prompt = PROMPTS[0]
    alone = answers_of(core_of(model), [prompt], [40], ignore_eos=True)
    seen = passes(monkeypatch, model)

    found = answers_of(core_of(model, drafted=4, copied=True), [prompt], [40], ignore_eos=True)

    assert found == alone
    assert len(found[0].tokens) == 40
    assert len(seen) < 20  # of a trained model, most guesses are right
    assert max(seen) <= MOST or kind == "llama"  # whose prompt is read before


def test_where_guesses_are_wrong_there_are_soon_none_but_a_trial_now_and_then(
    small: SmallModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, limit = PROMPTS[0], 200
    model = model_on(TINY / "tiny-llama")
    alone = answers_of(core_of(model), [prompt], [limit], ignore_eos=True)
    monkeypatch.setattr(Vocabulary, "guess", lambda self, hidden: torch.full((len(hidden),), 7))
    monkeypatch.setattr(Repeats, "__call__", lambda self, sequence, count: (LONGEST, [7] * count))
    seen = passes(monkeypatch, model)

    found = answers_of(core_of(model, drafted=4, copied=True), [prompt], [limit], ignore_eos=True)

    assert found == alone and 7 not in found[0].tokens
    guessing = [at for at, tokens in enumerate(seen[1:]) if tokens > 1]
    trials = [at for at in guessing if at > guessing[0] + 30]
    assert len(guessing) - len(trials) < 25
    assert [after - before for before, after in pairwise(trials)] == [AGAIN] * (len(trials) - 1) and len(trials) >= 4


def said_of(drafts: Drafts, kind: int, right: int, wrong: int) -> None:
    """A row heard as much of its guesses."""
    row = Sequence(0, (), [5], 1, Sampling(9))
    guesses = [1] * right + [2] * wrong
    row.foreseen, row.guessed, row.copied = (max(kind, 0), guesses if kind >= 0 else []), guesses, kind == COPIES
    drafts.learn(row, [1] * (right + 1), over=False)


@pytest.mark.parametrize(
    ("kind", "rows", "counts"),
    [
        (COPIES, 1, [5, 3, 1, 0]),
        (COPIES, 2, [2, 2, 1, 0]),
        (COPIES, 4, [1, 1, 0, 0]),
        (COPIES, 8, [0, 0, 0, 0]),
        (LONGEST, 1, [5, 5, 3, 0]),
        (LONGEST, 2, [3, 2, 2, 0]),
        (LONGEST, 4, [1, 1, 1, 0]),
        (LONGEST, 8, [0, 0, 0, 0]),
    ],
)
def test_the_more_are_right_the_more_are_guessed(small: SmallModels, kind: int, rows: int, counts: list[int]) -> None:
    model = small.model("t5")
    drafts = Drafts(model, model.stores(1, 8, 8), MOST - 1, copied=True)
    found = []
    for right, wrong in [(7, 0), (6, 1), (1, 1), (0, 1)]:
        for other in (COPIES, LONGEST):
            for _ in range(100):
                said_of(drafts, other, *((right, wrong) if other == kind else (0, 1)))
        found.append(drafts.worth([LONGEST] * rows, MOST // rows - 1))
        drafts.forget()

    assert found == [(kind == COPIES and count > 0, count) for count in counts]


def test_rows_whose_text_says_nothing_are_not_counted_on(small: SmallModels) -> None:
    model = small.model("t5")
    drafts = Drafts(model, model.stores(1, 8, 8), MOST - 1, copied=False)
    for _ in range(100):
        said_of(drafts, LONGEST, 7, 0)

    assert drafts.worth([LONGEST, LONGEST], 3) == (False, 3)
    assert drafts.worth([ANEW, ANEW], 3) == (False, 0)
    assert drafts.worth([LONGEST, ANEW, ANEW, ANEW], 1) == (False, 0)


def test_what_the_text_would_have_guessed_is_learned_whoever_guessed(small: SmallModels) -> None:
    model = small.model("t5")
    drafts = Drafts(model, model.stores(1, 8, 8), MOST - 1, copied=False)
    assert drafts.worth([1], 7)[1] > 0

    for _ in range(50):
        said_of(drafts, 1, 0, 1)
    assert drafts.worth([1], 7) == (False, 0) and drafts.worth([2], 7)[1] > 0

    for _ in range(50):
        said_of(drafts, 1, 1, 0)
    assert drafts.worth([1], 7)[1] > 4


def test_answers_that_end_before_any_guess_is_looked_at_teach_nothing() -> None:
    share = Share(9.0)

    for _ in range(10_000):  # as many as make 0.9 to the power of them 0
        share.learn(0, 0)

    assert share.now == 0.9


@pytest.mark.parametrize(
    ("wanted", "dtype", "held", "given"),
    [
        ({}, torch.float32, SMALL, MOST - 1),
        ({}, torch.float32, SMALL - 1, 0),  # a cache may hold them
        ({}, torch.bfloat16, SMALL, MOST - 1),
        ({}, torch.float16, SMALL, 0),  # which our kernels do not multiply
        ({"speculative_length": "0"}, torch.float32, SMALL, 0),
        ({"speculative_length": "2"}, torch.bfloat16, 1, 2),
    ],
)
def test_large_weights_guess_without_being_asked(
    wanted: dict[str, str], dtype: torch.dtype, held: int, given: int
) -> None:
    assert Wish.of(wanted).guesses(dtype, "none", held, invariant=False, stages=1) == given


@pytest.mark.parametrize(
    ("wanted", "dtype", "quantize", "given"),
    [
        ({}, torch.float32, "none", True),
        ({}, torch.bfloat16, "none", False),  # a guess saves half of the bytes only
        ({"speculative_length": "2"}, torch.bfloat16, "none", True),
        ({"speculative_length": "2"}, torch.float32, "int8", False),
    ],
)
def test_the_model_guesses_where_its_weights_are_long(
    wanted: dict[str, str], dtype: torch.dtype, quantize: str, given: bool
) -> None:
    assert Wish.of(wanted).copied(dtype, quantize) == given


@pytest.mark.parametrize(("room", "copied"), [(3.0, True), (1.1, False)])
def test_copies_nobody_asked_for_need_room_for_the_weights_once_more(
    room: float, copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = TINY / "tiny-llama"
    monkeypatch.setattr(wish, "SMALL", 0)
    weights = sum(tensor.nbytes for tensor in load_file(folder / "model.safetensors").values())
    monkeypatch.setattr(native, "free", lambda device: int(room * weights))
    seen = passes(monkeypatch, model_on(folder))
    said = list[str]()
    engine = load(Options(dtype="fp32"), folder, 0, 1, "", said.append)

    replies_of(engine, [Request("sort: d b a c", Sampling(20, ignore_eos=True))])

    assert max(seen[1:]) > 1
    (line,) = [line for line in said if line.startswith("speculative_length")]
    assert ("copies in 8 bits" in line) == copied


def test_copies_for_guesses_that_there_is_no_room_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "free", lambda device: 1000 * 1000)

    with pytest.raises(LoadError, match=r"^'speculative_length' takes 0\.0 GB more on each rank.*: leave it out"):
        load(Options(dtype="fp32", properties={"speculative_length": "2"}), TINY / "tiny-llama", 0, 1, "")


def test_what_cannot_be_guessed_with_and_was_not_asked_for_is_served_without() -> None:
    silent = Wish.of({})

    assert silent.guesses(torch.float32, "int4", SMALL, invariant=False, stages=1) == 0
    assert silent.guesses(torch.float32, "none", SMALL, invariant=False, stages=1, steady=False) == 0
    assert silent.guesses(torch.float32, "none", SMALL, invariant=True, stages=1) == 0
    assert silent.guesses(torch.float32, "none", SMALL, invariant=False, stages=2) == 0


def test_guesses_stay_behind_where_another_draws_its_tokens(small: SmallModels) -> None:
    model = small.model("t5")
    news = News((arrival(0, PROMPTS[0], 12), arrival(1, PROMPTS[1], 12, temperature=0.9, seed=3)))

    plain, guessed = (run(core_of(model, drafted=count, copied=True), {0: news}) for count in (0, 4))

    assert guessed == plain


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_ranks_guess_the_same(small: SmallModels, kind: str) -> None:
    def rank(mesh: Mesh) -> list[Answer]:
        model = model_on(small.folder(kind), mesh.group)
        return answers_of(core_of(model, drafted=3, copied=True, mesh=mesh), PROMPTS, LIMITS)

    first, second = on_mesh(2, 1, rank)

    assert first == second == small.alone(kind)


def test_a_stop_sequence_among_guesses_ends_the_answer_there() -> None:
    requests = [Request("reverse: a b c d", Sampling(20, ignore_eos=True))]
    plain, guessing = (
        load(Options(dtype="fp32", properties={"speculative_length": length}), TINY / "tiny-t5", 0, 1, "")
        for length in ("0", "4")
    )
    text = replies_of(plain, requests)[0].text
    stops = [Request(requests[0].prompt, Sampling(20, ignore_eos=True, stop=(text[at],))) for at in range(len(text))]

    assert [replies_of(guessing, [each]) for each in stops] == [replies_of(plain, [each]) for each in stops]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"properties": {"speculative_length": "many"}}, r"a whole number from 0, which is none, to 7: got 'many'"),
        ({"properties": {"speculative_length": "8"}}, "got '8'"),
        ({"properties": {"speculative_length": "-1"}}, "got '-1'"),
        ({"properties": {"speculative_length": "2"}, "dtype": "fp16"}, "'dtype' is float16"),
        ({"properties": {"speculative_length": "2"}, "batch_invariant": True}, "does not go with 'batch_invariant'"),
        (
            {"properties": {"speculative_length": "2"}, "quantize": "int4"},
            "goes with 'quantize' none, int8, .*: got 'int4'",
        ),
    ],
)
def test_what_cannot_be_guessed_with_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(LoadError, match=said):
        load(Options(**{"dtype": "fp32", **options}), TINY / "tiny-t5", 0, 1, "")
