"""The native engine over decoder-only checkpoints: prompts in, completions out; ranks as processes; what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.engines.native import load
from heavylift_runtime.errors import LoadError, PromptError
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.sources import Folder
from heavylift_runtime.native.text import Markers
from heavylift_runtime.options import Options
from tests.decoder_checkpoints import KINDS, continuation, gap, oracle, write_decoder
from tests.native_cores import forced_logits, model_on, replies_of
from tests.t5_checkpoints import edit_config, edit_tensors, write_tokenizer
from tests.test_native_engine import DEADLINE, ask, line, ranks

PROMPTS = ["8Lbc2Ka", "A", "=>?@ABCDEFGHIJKLMNOP", "aabbc"]
FAMILIES = ["llama", "mistral-window", "qwen2", "qwen3", "mixtral", "gpt2", "gptj", "gpt-neox", "opt-350m", "bloom"]


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    family, config = KINDS["gpt2"]
    return write_decoder(tmp_path / "gpt2", family, **{**config, "n_positions": 40})


def test_a_reply_is_the_completion_without_the_prompt(gpt2: Path) -> None:
    engine = load(Options(batch_size=3), gpt2, 0, 1, "")
    tokenizer = Tokenizer.from_file(str(gpt2 / "tokenizer.json"))
    theirs = oracle(gpt2)

    replies = replies_of(engine, [Request(prompt, Sampling(9)) for prompt in PROMPTS])

    for prompt, reply in zip(PROMPTS, replies, strict=True):
        ids = tokenizer.encode(prompt).ids
        expected = continuation(theirs, ids, 9)
        assert (reply.text, reply.generated_tokens) == (
            tokenizer.decode(ids + [token for token in expected if token != 1])[len(tokenizer.decode(ids)) :],
            len(expected),
        )
        assert reply.prompt_tokens == len(ids)


def test_a_prompt_and_answer_beyond_the_models_positions_are_refused_before_anything_is_computed(gpt2: Path) -> None:
    engine = load(Options(batch_size=4), gpt2, 0, 1, "")
    fits, too_long = Request("a" * 20, Sampling(19)), Request("a" * 20, Sampling(20))  # and </s>

    with pytest.raises(PromptError) as caught:
        replies_of(engine, [fits, too_long])

    assert str(caught.value) == (
        "the prompt has 21 tokens and asks for 20 new ones; "
        "the model has 40 positions for both together, shorten it or ask for fewer"
    )
    assert 1 <= replies_of(engine, [fits])[0].generated_tokens <= 19


def test_a_word_that_the_tokenizer_knows_and_the_model_does_not_is_refused(gpt2: Path) -> None:
    write_tokenizer(gpt2, 64)
    engine = load(Options(), gpt2, 0, 1, "")

    with pytest.raises(PromptError, match=r"the prompt has the token 63, the model knows 61; its tokenizer has words"):
        replies_of(engine, [Request("ab" + chr(ord("0") + 60), Sampling(4))])
    assert replies_of(engine, [Request("ab", Sampling(4))])[0].prompt_tokens == 3


def test_a_checkpoint_without_its_heads_prefix_and_with_old_constants_is_the_same_model(gpt2: Path) -> None:
    before = replies_of(load(Options(), gpt2, 0, 1, ""), [Request("abc", Sampling(8))])

    def as_published(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        short = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        return {**short, "h.0.attn.bias": torch.ones(1, 1, 40, 40), "lm_head.weight": short["wte.weight"].clone()}

    edit_tensors(gpt2, as_published)

    assert replies_of(load(Options(), gpt2, 0, 1, ""), [Request("abc", Sampling(8))]) == before
    edit_tensors(gpt2, lambda tensors: tensors | {"lm_head.weight": tensors["lm_head.weight"] + 1})
    with pytest.raises(LoadError, match=r"'lm_head.weight' differs from 'transformer.wte.weight'"):
        load(Options(), gpt2, 0, 1, "")


def test_a_model_without_padding_token_is_served_and_one_without_end_is_refused(gpt2: Path) -> None:
    (gpt2 / "generation_config.json").unlink()
    edit_config(gpt2, pad_token_id=None)
    assert Markers.of(Checkpoint.open(Folder(gpt2))) == Markers(0, 0, frozenset({1}))

    edit_config(gpt2, eos_token_id=None)

    with pytest.raises(LoadError, match=r"'eos_token_id' is None; config\.json or generation_config\.json must"):
        Markers.of(Checkpoint.open(Folder(gpt2)))


def test_a_missing_head_a_stranger_and_a_wrong_shape_are_named(tmp_path: Path) -> None:
    family, config = KINDS["llama"]
    folder = write_decoder(tmp_path / "llama", family, **config)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(24)
    tensors["model.norm.weight"] = torch.ones(25)
    del tensors["lm_head.weight"]
    save_file(tensors, path, metadata={"format": "pt"})

    with pytest.raises(LoadError) as caught:
        load(Options(), folder, 0, 1, "")

    message = str(caught.value)
    assert "tensor 'model.norm.weight' has shape [25], [24] by config.json" in message
    assert "tensor 'lm_head.weight' of shape [61, 24] is missing" in message
    assert "tensor 'model.layers.0.self_attn.q_proj.bias' is none of Llama, Mistral, Qwen2, Qwen3's" in message


def test_a_degree_that_does_not_fit_is_refused_before_any_rank_waits(gpt2: Path) -> None:
    with pytest.raises(LoadError, match="tensor_parallel_degree 3 does not divide 'n_head' 4; use 1 or 2 or 4"):
        load(Options(tensor_parallel_degree=3), gpt2, 0, 3, "file:///nowhere/rendezvous")


@pytest.mark.parametrize("kind", ["llama", "bloom", "gptj"])
def test_bf16_is_no_further_from_fp32_than_transformers_bf16(kind: str, tmp_path: Path) -> None:
    family, config = KINDS[kind]
    folder = write_decoder(tmp_path / kind, family, **config)
    tokens = [40, 41, 8, 3, 55, 9, 9, 9, 30, 28, 27, 4, 6, 18, 19, 20, 22, 23, 11]
    theirs, ids = oracle(folder), torch.tensor([tokens])
    with torch.inference_mode():
        exact = theirs(input_ids=ids).logits[0]
        rough = theirs.to(torch.bfloat16)(input_ids=ids).logits[0].float()

        ours, _ = forced_logits(model_on(folder, dtype=torch.bfloat16), [tokens], torch.zeros(1, 0))

    assert 0 < (ours - exact).std() < 1.5 * (rough - exact).std()


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
def test_two_processes_complete_as_transformers_does(kind: str, tmp_path: Path) -> None:
    family, config = KINDS[kind]
    folder = write_decoder(tmp_path / "model", family, **config)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs = oracle(folder)

    with ranks(folder, 2, tmp_path) as processes:
        assert [line(process) for process in processes] == ["loaded"] * 2
        ask(processes[0], [[prompt, 20] for prompt in PROMPTS])
        replies = json.loads(line(processes[0]))
        ask(processes[0], None)
        codes = [process.wait(DEADLINE) for process in processes]

    for prompt, reply in zip(PROMPTS, replies, strict=True):
        ids = tokenizer.encode(prompt).ids
        expected = continuation(theirs, ids, 20)
        if (
            reply["text"]
            != tokenizer.decode(ids + [token for token in expected if token != 1])[len(tokenizer.decode(ids)) :]
        ):  # then a tie, which rounding decides
            assert min(gap(theirs, ids + expected[:place]) for place in range(len(expected))) < 1e-4
    assert codes == [0, 0]
