"""Every engine that is installed keeps the seam's promises (engines/engine.py), on the same random checkpoints.

An engine that cannot do a thing says so with a PromptError before it computes; then the test says which it was.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from heavylift_runtime.engines.engine import Engine, Form, Piece, Request, Sampling, Token
from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.errors import PromptError
from heavylift_runtime.options import Options
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.neuron_sdk import recorded_sdk
from tests.t5_checkpoints import write_t5

pytestmark = pytest.mark.slow

MODELS = {
    "native": ("t5", "llama", "gpt2", "bloom"),
    "fastertransformer": ("t5", "gpt2", "bloom"),
    "accelerate": ("t5", "llama", "gpt2", "bloom"),
    "accelerate@2": ("llama",),  # over two ranks
    "vllm": ("llama", "gpt2"),
    "deepspeed": ("t5", "llama", "gpt2"),
    "deepspeed@2": ("t5", "llama"),
    "neuronx": ("llama", "gpt2", "bloom"),  # over the recorded interface of its SDK
}
WIDE: dict[str, dict[str, Any]] = {  # vLLM's attention on processors wants heads of 32
    "llama": {"hidden_size": 128},
    "gpt2": {"n_embd": 128},
    "bloom": {"hidden_size": 128},
}
INSTALLED = [name for name in MODELS if ENGINES[name.partition("@")[0]].missing() is None]
PROMPTS = ("2468", "A", "why?", "@@@@@@@@@@@@@", "07")
DRAWN = Sampling(12, temperature=1.3, top_k=20, top_p=0.95, seed=7)


@dataclass(frozen=True)
class Answer:
    """What the pieces of one request came to."""

    text: str
    tokens: tuple[Token, ...]
    last: Piece

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]


@pytest.fixture(scope="module", params=[f"{engine}-{model}" for engine in INSTALLED for model in MODELS[engine]])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    torch.set_num_threads(1)
    which, model = request.param.split("-")
    name, _, ranks = which.partition("@")
    world = int(ranks or 1)
    folder = tmp_path_factory.mktemp("checkpoint")
    if model == "t5":
        write_t5(folder)
    else:
        family, config = KINDS[model]
        write_decoder(folder, family, **{**config, **WIDE[model]})
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    options = replace(Options(), batch_size=4, tensor_parallel_degree=world)
    load: Callable[..., Engine] = importlib.import_module(ENGINES[name].module).load
    meeting = f"file://{folder}/rendezvous"
    with ExitStack() as others:
        if name == "neuronx":
            others.enter_context(recorded_sdk())
        for rank in range(1, world):
            command = [sys.executable, "-m", "tests.follower", name, str(folder), str(rank), str(world), meeting]
            others.enter_context(_following(command))
        loaded = load(options, folder, 0, world, meeting)
        yield loaded
        loaded.close()


@contextmanager
def _following(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(command) as process:
        try:
            yield
            assert process.wait(60) == 0, "a rank that followed did not end well"
        finally:
            process.kill()


def answers(engine: Engine, requests: Sequence[Request]) -> list[Answer]:
    for key, request in enumerate(requests):
        engine.add(key, request)
    return finish(engine, list(range(len(requests))))


def finish(engine: Engine, keys: Sequence[int]) -> list[Answer]:
    tokens: dict[int, list[Token]] = {key: [] for key in keys}
    last: dict[int, Piece] = {}
    while engine.busy:
        for piece in engine.step():
            assert piece.key not in last, "a piece after the last one"
            tokens[piece.key] += piece.tokens
            if piece.last:
                last[piece.key] = piece
    return [Answer("".join(t.text for t in tokens[key]), tuple(tokens[key]), last[key]) for key in keys]


def answer(engine: Engine, prompt: str, sampling: Sampling) -> Answer:
    return answers(engine, [Request(prompt, sampling)])[0]


def test_every_request_gets_its_own_whole_answer(engine: Engine) -> None:
    requests = [Request(prompt, Sampling(limit, ignore_eos=True)) for limit, prompt in enumerate(PROMPTS, start=3)]

    together = answers(engine, requests)
    alone = [answers(engine, [request])[0] for request in requests]

    assert [each.last.generated_tokens for each in together] == [3, 4, 5, 6, 7]
    assert {each.last.finish_reason for each in together} == {"length"}
    assert [len(each.ids) for each in together] == [3, 4, 5, 6, 7]
    assert [each.last.prompt_tokens for each in together] == [len(prompt) + 1 for prompt in PROMPTS]
    assert [each.ids for each in together] == [each.ids for each in alone]
    assert [each.text for each in together] == [each.text for each in alone]


def test_a_prompt_of_tokens_is_the_same_as_its_text(engine: Engine) -> None:
    text = answer(engine, "0", Sampling(5))
    tokens = answers(engine, [Request((3, 1), Sampling(5))])[0]  # the tokenizer's "0" and its </s>

    assert tokens.ids == text.ids


def test_requests_come_and_go_while_others_run(engine: Engine) -> None:
    long, short = Request("2468", Sampling(20, ignore_eos=True)), Request("why?", Sampling(4, ignore_eos=True))
    alone = [answers(engine, [each])[0].ids for each in (long, short)]

    engine.add(0, long)
    first = engine.step()
    engine.add(1, short)
    rest = finish(engine, [0, 1])

    assert first[0].key == 0 and not first[0].last
    assert [first[0].tokens[0].id, *rest[0].ids] == alone[0]
    assert rest[1].ids == alone[1]


def test_more_requests_than_run_at_once_wait_and_are_answered(engine: Engine) -> None:
    found = answers(engine, [Request("A", Sampling(3, ignore_eos=True))] * (2 * engine.capacity + 1))

    assert len({tuple(each.ids) for each in found}) == 1


def test_the_same_seed_draws_the_same_tokens_alone_and_among_others(engine: Engine) -> None:
    alone = answer(engine, "2468", DRAWN)
    among = answers(engine, [Request("A", replace(DRAWN, seed=1)), Request("2468", DRAWN), Request("A", Sampling(9))])
    others = {tuple(answer(engine, "2468", replace(DRAWN, seed=seed)).ids) for seed in range(8)}

    assert among[1].ids == alone.ids
    assert len(others) > 1


def test_a_stop_sequence_ends_the_answer_before_it(engine: Engine) -> None:
    whole = answer(engine, "2468", Sampling(12, ignore_eos=True)).text
    stop = whole[len(whole) // 2 :][:3]

    found = answer(engine, "2468", Sampling(12, ignore_eos=True, stop=(stop,)))

    assert found.last.finish_reason == "stop_sequence"
    assert found.text == whole[: whole.index(stop)]
    assert found.last.generated_tokens < 12


def test_an_answer_ends_with_the_end_of_sequence_token_unless_it_is_ignored(engine: Engine) -> None:
    drawn = [answer(engine, prompt, replace(DRAWN, max_new_tokens=80, seed=3)) for prompt in PROMPTS]
    ended = [each for each in drawn if each.last.finish_reason == "eos_token"]

    assert ended, "no answer of 80 random tokens has ended"
    for each in ended:
        assert each.ids[-1] == 1 and 1 not in each.ids[:-1]
        assert "</s>" not in each.text


def test_the_fewest_tokens_are_generated_before_the_end(engine: Engine) -> None:
    drawn = [
        answer(engine, "A", replace(DRAWN, max_new_tokens=25, min_new_tokens=20, seed=seed)).last for seed in range(3)
    ]

    assert all(each.generated_tokens >= 20 for each in drawn)


def test_log_probabilities_are_the_models_own(engine: Engine) -> None:
    greedy = answer(engine, "2468", Sampling(5, ignore_eos=True, logprobs=3))
    bare = answer(engine, "2468", Sampling(5, ignore_eos=True))

    assert all(token.logprob is None for token in bare.tokens)
    for token in greedy.tokens:
        assert token.logprob is not None and token.logprob <= 0
        assert len(token.top) == 3
        assert token.top[0][0] == token.id and token.top[0][2] == pytest.approx(token.logprob)
        assert [each[2] for each in token.top] == sorted((each[2] for each in token.top), reverse=True)


def test_a_penalty_for_repetition_is_felt(engine: Engine) -> None:
    plain = answer(engine, "@@@@@@@@@@@@@", Sampling(40, ignore_eos=True))
    penalized = answer(engine, "@@@@@@@@@@@@@", Sampling(40, ignore_eos=True, frequency_penalty=2.0))

    assert len(set(penalized.ids)) > len(set(plain.ids))


def test_a_beam_search_is_at_least_as_likely_as_greedy_decoding(engine: Engine) -> None:
    try:
        beams = answer(engine, "2468", Sampling(6, num_beams=4, ignore_eos=True))
    except PromptError as error:
        pytest.skip(f"this engine has no beam search: {error}")

    assert len(beams.ids) == 6
    assert beams.last.generated_tokens == 6


def test_a_cancelled_request_gives_no_more_pieces(engine: Engine) -> None:
    alone = answer(engine, "A", Sampling(8, ignore_eos=True)).ids
    engine.add(0, Request("2468", Sampling(50, ignore_eos=True)))
    engine.add(1, Request("A", Sampling(8, ignore_eos=True)))
    first = [piece for piece in engine.step() if piece.key == 1]

    engine.cancel(0)
    engine.cancel(99)
    (rest,) = finish(engine, [1])

    assert [piece.tokens[0].id for piece in first] + rest.ids == alone


def test_a_request_is_cancelled_while_it_waits(engine: Engine) -> None:
    engine.add(0, Request("A", Sampling(3)))
    engine.cancel(0)

    assert not engine.busy
    assert engine.step() == []


@pytest.mark.parametrize(
    "request_",
    [
        Request((), Sampling(3)),
        Request((3, 10**6), Sampling(3)),
        Request("half of a pair: \ud800", Sampling(3)),
        Request("A", Sampling(3), adapter="none-such"),
        Request("A", Sampling(3, form=Form("regex", "("))),  # no engine binds an answer to that
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_is_computed(engine: Engine, request_: Request) -> None:
    with pytest.raises(PromptError):
        engine.add(0, request_)

    assert not engine.busy
