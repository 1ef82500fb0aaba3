"""How the native engine draws tokens, against transformers' own processors and searches on the same scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from heavylift_runtime.engines.engine import Sampling
from heavylift_runtime.native.core import Core
from heavylift_runtime.native.limits import Limits
from heavylift_runtime.native.news import Arrival, News
from heavylift_runtime.native.sampling import NOTHING, Chosen, choose, likely, penalized, uniform
from heavylift_runtime.native.sequence import Sequence
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.decoder_checkpoints import oracle as decoder_oracle
from tests.native_cores import PLENTY, Answer, answers_of, arrival, core_of, model_on, run
from tests.t5_checkpoints import oracle, write_t5

PROMPTS = [[5, 9, 33, 21, 7, 1], [12, 1], [40, 41, 8, 3, 55, 9, 9, 9, 30, 28, 27, 4, 6, 18, 19, 20, 22, 23, 1], [3, 1]]
CRITICAL = 99.0
"""The chi-square statistic that 60 degrees of freedom exceed once in a thousand times."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, config = KINDS["llama"]
    return write_decoder(tmp_path_factory.mktemp("llama"), family, **config)


def sequence(sampling: Sampling, text: list[int], given: int = 1, seed: int = 0) -> Sequence:
    return Sequence(0, (), text, given, sampling, False, seed)


def warped(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """transformers' probabilities of each token."""
    steps: list[Any] = [TemperatureLogitsWarper(sampling.temperature)]
    steps += [TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []
    steps += [TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
    steps += [MinPLogitsWarper(sampling.min_p)] if sampling.min_p else []
    run: Any = LogitsProcessorList(steps)
    return torch.softmax(run(torch.zeros(1, 1).long(), scores.unsqueeze(0))[0], 0)


@settings(max_examples=150)
@given(
    words=st.sampled_from([7, 61, 900]),
    temperature=st.floats(0.1, 3),
    top_k=st.integers(0, 70),
    top_p=st.sampled_from([0.01, 0.3, 0.77, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.4]),
    seed=st.integers(0, 99),
    rough=st.booleans(),
)
def test_the_tokens_that_may_be_drawn_are_those_of_transformers(
    words: int, temperature: float, top_k: int, top_p: float, min_p: float, seed: int, rough: bool
) -> None:
    torch.manual_seed(seed)
    scores = torch.randn(words) * 3
    if rough:  # as bf16 makes them: many are equal
        top_p, scores = 1.0, scores.bfloat16().float()
    sampling = Sampling(5, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)

    ids, kept = likely(scores, sampling)

    ours = torch.zeros(words).index_put_((ids,), torch.softmax(kept, 0))
    torch.testing.assert_close(ours, warped(scores, sampling), atol=1e-5, rtol=1e-4)


@settings(max_examples=40)
@given(penalty=st.sampled_from([0.5, 1.2, 3.0]), text=st.lists(st.integers(0, 29), min_size=1, max_size=20))
def test_the_penalty_for_repetition_is_that_of_transformers(penalty: float, text: list[int]) -> None:
    torch.manual_seed(len(text))
    scores = torch.randn(30)

    ours = penalized(scores, sequence(Sampling(5, repetition_penalty=penalty), text), {1})

    theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([text]), scores.unsqueeze(0))[0]
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("way", [{"top_k": 1}, {"top_k": 5}, {"min_p": 0.1}, {"min_p": 0.1, "logprobs": 2}])
def test_of_scores_without_a_number_nothing_is_drawn(way: dict[str, Any]) -> None:
    scores = torch.full((40,), torch.nan)

    assert choose(scores, sequence(Sampling(8, temperature=0.7, **way), [3]), ()) == Chosen(NOTHING)


def test_openais_penalties_count_what_was_generated() -> None:
    sampling = Sampling(9, frequency_penalty=0.5, presence_penalty=0.25)

    ours = penalized(torch.zeros(6), sequence(sampling, [5, 5, 2, 3, 3], given=2), {1})

    assert ours.tolist() == [0, 0, -0.75, -1.25, 0, 0]


@pytest.mark.slow
def test_draws_follow_transformers_distribution() -> None:
    torch.manual_seed(0)
    scores, count = torch.randn(61) * 1.5, 20_000
    sampling = Sampling(5, temperature=0.8, top_k=40, top_p=0.97)
    expected = warped(scores, sampling) * count

    drawn = torch.bincount(
        torch.tensor([choose(scores, sequence(sampling, [0], seed=seed), {1}).token for seed in range(count)]),
        minlength=61,
    )

    likely_ones = expected > 5
    assert drawn[expected == 0].sum() == 0
    statistic = ((drawn - expected) ** 2 / expected)[likely_ones].sum()
    assert statistic < CRITICAL


@pytest.mark.parametrize("temperature", [1e-20, 1e-35, 5e-324])
def test_the_lowest_temperatures_leave_the_likeliest_token(temperature: float) -> None:
    torch.manual_seed(0)
    scores = torch.randn(61)

    drawn = {choose(scores, sequence(Sampling(5, temperature=temperature), [0], seed=s), {1}).token for s in range(9)}

    assert drawn == {int(scores.argmax())}


def test_an_end_that_the_model_does_not_know_never_comes_and_harms_nobody(llama: Path) -> None:
    model = model_on(llama)
    core = Core(model, 0, {1, 10**6}, 4, PLENTY, Limits.of(model, 128))

    answers = answers_of(core, PROMPTS, [20] * 4, min_new_tokens=15)

    assert answers == answers_of(core_of(model), PROMPTS, [20] * 4, min_new_tokens=15)


def test_numbers_are_even_and_differ_by_seed_and_place() -> None:
    numbers = torch.tensor([uniform(seed, place) for seed in range(-50, 50) for place in range(100)])

    assert torch.histc(numbers, 20, 0, 1).min() > 400
    assert len(set(numbers.tolist())) > 9900


@pytest.mark.parametrize("settings", [{"repetition_penalty": 1.7}, {"min_new_tokens": 15}])
@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_greedy_decoding_under_a_processor_is_that_of_transformers(
    kind: str, settings: dict[str, Any], t5: Path, llama: Path
) -> None:
    folder = t5 if kind == "t5" else llama
    theirs: Any = oracle(t5) if kind == "t5" else decoder_oracle(llama)

    answers = answers_of(core_of(model_on(folder)), PROMPTS, [20] * 4, **settings)

    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            output: Any = theirs.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, pad_token_id=0,
                **settings,
            )  # fmt: skip
        tokens = output[0, 1 if kind == "t5" else len(prompt) :].tolist()
        assert answer.tokens == tokens


@pytest.mark.slow
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.5, -1.0])
@pytest.mark.parametrize("beams", [2, 3, 5])
def test_a_beam_search_finds_what_transformers_finds(t5: Path, beams: int, length_penalty: float) -> None:
    theirs, core = oracle(t5), core_of(model_on(t5), slots=8)

    answers = answers_of(core, PROMPTS, [17] * 4, num_beams=beams, length_penalty=length_penalty)

    for prompt, answer in zip(PROMPTS, answers, strict=True):
        assert answer == expected_beams(theirs, prompt, 17, beams, length_penalty)


def expected_beams(theirs: Any, prompt: list[int], limit: int, beams: int, penalty: float) -> Answer:
    with torch.inference_mode():
        output = theirs.generate(
            input_ids=torch.tensor([prompt]), max_new_tokens=limit, num_beams=beams, length_penalty=penalty,
            do_sample=False, early_stopping=False,
        )  # fmt: skip
    tokens = output[0, 1:].tolist()
    return Answer(tokens, "eos_token" if tokens[-1] == 1 else "length")


def test_each_answer_of_a_beam_search_is_that_of_transformers(t5: Path) -> None:
    theirs: Any = oracle(t5)

    answers = [answers_of(core_of(model_on(t5), slots=8), PROMPTS, [17] * 4, num_beams=4, beam=n) for n in range(4)]

    for place, prompt in enumerate(PROMPTS):
        with torch.inference_mode():
            output = theirs.generate(
                input_ids=torch.tensor([prompt]), max_new_tokens=17, num_beams=4, num_return_sequences=4,
                do_sample=False, early_stopping=False,
            )  # fmt: skip
        for beam, line in zip(answers, output[:, 1:].tolist(), strict=True):
            own = beam[place].tokens
            assert own == line[: len(own)] and set(line[len(own) :]) <= {0}


@pytest.mark.parametrize("beams", [2, 4])
def test_a_beam_searchs_log_probabilities_are_those_of_transformers(t5: Path, beams: int) -> None:
    core = core_of(model_on(t5), slots=8)
    theirs: Any = oracle(t5)
    how = Sampling(12, num_beams=beams, logprobs=2)
    news = News(tuple(Arrival(key, tuple(prompt), how, 0) for key, prompt in enumerate(PROMPTS)))
    said: dict[int, tuple[Chosen, ...]] = {}

    with torch.inference_mode():
        while core.busy or news.arrived:
            said |= {each.sequence.key: each.chosen for each in core.step(news)}
            news = News()

    for key, prompt in enumerate(PROMPTS):
        with torch.inference_mode():
            output: Any = theirs.generate(
                input_ids=torch.tensor([prompt]), max_new_tokens=12, num_beams=beams, do_sample=False,
                output_scores=True, return_dict_in_generate=True,
            )  # fmt: skip
            steps = theirs.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
        tokens = output.sequences[0, 1:].tolist()
        assert [chosen.token for chosen in said[key]] == tokens
        assert [chosen.logprob for chosen in said[key]] == pytest.approx(steps[0, : len(tokens)].tolist(), abs=1e-4)
        assert all(len(chosen.top) == 2 and chosen.top[0][1] >= chosen.top[1][1] for chosen in said[key])
        assert all(chosen.logprob is not None and chosen.logprob <= chosen.top[0][1] + 1e-6 for chosen in said[key])


def test_beam_searches_among_others_and_pushed_out_find_the_same(t5: Path) -> None:
    theirs, model = oracle(t5), model_on(t5)
    schedule = {
        0: News((arrival(0, PROMPTS[0], 12),)),
        2: News((arrival(1, PROMPTS[2], 17, num_beams=3), arrival(2, PROMPTS[1], 20))),
        5: News((arrival(3, PROMPTS[3], 17, num_beams=3), arrival(4, PROMPTS[0], 9, num_beams=2))),
        9: News((), (4,)),
    }
    widest = core_of(model).scheduler.most(core_of(model).sequence(schedule[2].arrived[0]))
    plain = answers_of(core_of(model), [PROMPTS[0], PROMPTS[1]], [12, 20])

    for slots, budget in ((16, 1 << 40), (4, 1 << 40), (8, widest)):
        answers = run(core_of(model, slots=slots, budget=budget, tokens=9), schedule)

        assert [answers[0], answers[2]] == plain
        assert answers[1] == expected_beams(theirs, PROMPTS[2], 17, 3, 1.0)
        assert answers[3] == expected_beams(theirs, PROMPTS[3], 17, 3, 1.0)


def test_a_seed_draws_the_same_tokens_alone_and_among_others(llama: Path) -> None:
    model = model_on(llama)
    how: dict[str, Any] = {"temperature": 1.2, "top_p": 0.9, "seed": 5}
    alone = [answers_of(core_of(model), [prompt], [25], **how)[0] for prompt in PROMPTS]

    among = answers_of(core_of(model, slots=3, tokens=7), PROMPTS, [25] * 4, **how)
    others = answers_of(core_of(model), PROMPTS, [25] * 4, **{**how, "seed": 6})

    assert among == alone
    assert others != alone


def test_log_probabilities_are_the_models_before_penalties_and_temperature() -> None:
    torch.manual_seed(1)
    scores = torch.randn(40)
    sampling = Sampling(5, temperature=2.0, repetition_penalty=5.0, logprobs=3)

    chosen = choose(scores, sequence(sampling, [4, 5, 6]), {1})

    logprobs = torch.log_softmax(scores, 0)
    assert chosen.logprob == pytest.approx(float(logprobs[chosen.token]))
    assert [token for token, _ in chosen.top] == logprobs.topk(3).indices.tolist()
    assert [value for _, value in chosen.top] == pytest.approx(logprobs.topk(3).values.tolist())
