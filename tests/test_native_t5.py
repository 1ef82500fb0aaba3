"""The native T5 against transformers on the same checkpoint: logits and greedy tokens at every degree; its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import T5ForConditionalGeneration

from heavylift_runtime.families import family_of
from heavylift_runtime.families.stages import WHOLE
from heavylift_runtime.families.t5 import T5, Shape
from heavylift_runtime.families.table import shard
from heavylift_runtime.native.architectures.t5 import T5Model
from heavylift_runtime.native.batch import Batch, Source
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.loader import outputs_first
from heavylift_runtime.native.partition import partition
from heavylift_runtime.native.sources import Folder
from tests.native_cores import answers_of, core_of, forced_logits, model_on
from tests.rank_threads import on_ranks
from tests.t5_checkpoints import edit_config, edit_tensors, oracle, write_t5

KINDS: dict[str, dict[str, Any]] = {
    "flan": {},
    "first-t5": {"tied": True, "feed_forward_proj": "relu"},
    "six-heads": {"num_heads": 6, "d_kv": 5, "vocab_size": 62},
    "wide-heads": {"d_kv": 16, "feed_forward_proj": "gated-silu", "num_decoder_layers": None},
    "tied-gated": {"tied": True, "vocab_size": 63},
}
DEGREES = [("flan", 1), ("flan", 2), ("flan", 4), ("first-t5", 1), ("first-t5", 2), ("six-heads", 1), ("six-heads", 3),
           ("wide-heads", 1), ("wide-heads", 2), ("tied-gated", 1), ("tied-gated", 4)]  # fmt: skip
PROMPTS = [[5, 9, 33, 21, 7, 1], [12, 1], [40, 41, 8, 3, 55, 9, 9, 9, 30, 28, 27, 4, 6, 18, 19, 20, 22, 23, 1], [3, 1]]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("t5")
    return {kind: write_t5(folder / kind, **config) for kind, config in KINDS.items()}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def inputs_of(prompts: list[list[int]]) -> dict[str, Tensor]:
    """As transformers wants them: padded, with a mask."""
    longest = max(map(len, prompts))
    ids = torch.tensor([prompt + [0] * (longest - len(prompt)) for prompt in prompts])
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    return {"input_ids": ids, "attention_mask": (torch.arange(longest) < lengths.unsqueeze(1)).long()}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "world"), DEGREES)
def test_logits_are_those_of_transformers(checkpoints: dict[str, Path], kind: str, world: int) -> None:
    torch.manual_seed(3)
    tokens = torch.cat([torch.zeros(4, 1, dtype=torch.int64), torch.randint(2, 60, (4, 37))], 1)
    with torch.inference_mode():
        expected = oracle(checkpoints[kind])(**inputs_of(PROMPTS), decoder_input_ids=tokens).logits

    ranks = on_ranks(world, lambda group: forced_logits(model_on(checkpoints[kind], group), PROMPTS, tokens)[1])

    for logits in ranks:
        assert torch.equal(logits, ranks[0])
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "world"), DEGREES)
def test_greedy_tokens_are_those_of_transformers(checkpoints: dict[str, Path], kind: str, world: int) -> None:
    with torch.inference_mode():
        model = oracle(checkpoints[kind])
        expected = model.generate(**inputs_of(PROMPTS), max_new_tokens=40, do_sample=False)

    ranks = on_ranks(world, lambda group: answers_of(core_of(model_on(checkpoints[kind], group)), PROMPTS, [40] * 4))

    for answers in ranks:
        for answer, row in zip(answers, expected[:, 1:].tolist(), strict=True):
            assert answer.tokens == row[: len(answer.tokens)]
            assert set(row[len(answer.tokens) :]) <= {0}
            assert answer.finish_reason == ("eos_token" if 1 in row else "length")
            assert len(answer.tokens) == 40 or answer.tokens[-1] == 1


@pytest.mark.parametrize("word", ["silu", "gelu_new", "gated-gelu_pytorch_tanh", "gated-quick_gelu"])
def test_rare_activations_are_those_of_transformers(tmp_path: Path, word: str) -> None:
    folder, tokens = write_t5(tmp_path, feed_forward_proj=word), torch.tensor([[0, 5, 8]] * 4)
    with torch.inference_mode():
        expected = oracle(folder)(**inputs_of(PROMPTS), decoder_input_ids=tokens).logits

    logits = forced_logits(model_on(folder), PROMPTS, tokens)[1]

    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_a_transformers_5_checkpoint_of_an_own_unscaled_head_is_read_as_such(tmp_path: Path) -> None:
    # transformers 5 writes tie_word_embeddings: true into every T5, and says the scaling in a field of its own
    folder = write_t5(tmp_path / "t5")
    edit_config(folder, tie_word_embeddings=True, scale_decoder_outputs=False)
    tokens = torch.tensor([[0, 5, 8]] * 4)

    with torch.inference_mode():
        own = forced_logits(model_on(folder), PROMPTS, tokens)[1]
        edit_tensors(folder, lambda tensors: {k: v for k, v in tensors.items() if k != "lm_head.weight"})
        shared = forced_logits(model_on(folder), PROMPTS, tokens)[1]
        expected = oracle(folder)(**inputs_of(PROMPTS), decoder_input_ids=tokens).logits

    torch.testing.assert_close(shared, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(own, shared, atol=0.1)


def test_bf16_is_no_further_from_fp32_than_transformers_bf16(checkpoints: dict[str, Path]) -> None:
    tokens = torch.tensor([[0, 5, 8, 44]] * 4)
    with torch.inference_mode():
        theirs = oracle(checkpoints["flan"])
        inputs = {**inputs_of(PROMPTS), "decoder_input_ids": tokens}
        exact, rough = theirs(**inputs).logits, theirs.to(torch.bfloat16)(**inputs).logits

        ours = forced_logits(model_on(checkpoints["flan"], dtype=torch.bfloat16), PROMPTS, tokens)[1]

    assert 0 < (ours - exact).std() < 1.5 * (rough - exact).std()


def overflowing(folder: Path) -> Path:
    """A T5 whose feed-forward layers leave fp16's range, as FLAN-T5-XXL's do."""
    folder = write_t5(folder)

    def louder(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        factors = {name: 60 if ".wi_" in name else 300 if name.endswith("wo.weight") else 1 for name in tensors}
        return {name: tensor * factors[name] for name, tensor in tensors.items()}

    edit_tensors(folder, louder)
    return folder


@pytest.mark.parametrize("ahead", [False, True])
def test_fp16_survives_activations_that_it_cannot_hold(tmp_path: Path, ahead: bool) -> None:
    folder = overflowing(tmp_path / "t5")
    tokens = torch.tensor([[0, 5, 8, 44]] * 4)
    with torch.inference_mode():
        inputs = {**inputs_of(PROMPTS), "decoder_input_ids": tokens}
        exact = oracle(folder)(**inputs).logits
        kept = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float16).eval()  # its wo stay in fp32
        theirs, lost = kept(**inputs).logits.float(), oracle(folder).half()(**inputs).logits.float()
    if ahead:
        partition(Folder(folder), tmp_path / "ahead", 1, "fp16")

    ours = forced_logits(model_on(tmp_path / "ahead" if ahead else folder, dtype=torch.float16), PROMPTS, tokens)[1]

    assert (lost - exact).std() > 1  # without wo in fp32 nothing is left of it
    assert 0 < (ours - exact).std() < 1.5 * (theirs - exact).std()


@pytest.mark.parametrize("world", [1, 2])
def test_fp16_is_no_further_from_fp32_than_transformers_fp16(checkpoints: dict[str, Path], world: int) -> None:
    tokens = torch.tensor([[0, 5, 8, 44]] * 4)
    with torch.inference_mode():
        inputs = {**inputs_of(PROMPTS), "decoder_input_ids": tokens}
        exact = oracle(checkpoints["flan"])(**inputs).logits
        theirs = T5ForConditionalGeneration.from_pretrained(checkpoints["flan"], dtype=torch.float16).eval()
        rough = theirs(**inputs).logits.float()

    ranks = on_ranks(
        world, lambda group: forced_logits(model_on(checkpoints["flan"], group, torch.float16), PROMPTS, tokens)[1]
    )

    for ours in ranks:
        assert 0 < (ours - exact).std() < 1.5 * (rough - exact).std()


class MetaWeights:
    """Hands out tensors without storage, in the shapes of the table, and remembers what was taken."""

    stage, dtype, device, total = WHOLE, torch.float32, torch.device("meta"), 0

    def __init__(self, config: dict[str, Any], rank: int, world: int, absent: set[str]) -> None:
        table = [weight for weight in family_of(config).weights(config) if weight.name not in absent]
        self.table = {weight.name: weight for weight in table}
        self.shapes = {weight.name: shard(weight, rank, world).shape for weight in table}
        self.taken: list[str] = []

    def has(self, name: str) -> bool:
        return name in self.shapes

    def take(self, name: str) -> Tensor:
        self.taken.append(name)
        return torch.empty(self.shapes[name])

    def matrix(self, name: str) -> Tensor:
        return outputs_first(self.table[name], self.take(name))


class Unconnected:
    """One rank of a world whose others are not there; for shapes only."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world

    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor

    def all_gather(self, tensor: Tensor, out: Tensor | None = None) -> Tensor:
        every = tensor.expand(self.world, *tensor.shape)
        return every if out is None else out.copy_(every)

    def broadcast(self, tensor: Tensor) -> Tensor:
        return tensor

    def send(self, tensor: Tensor, to: int) -> None: ...

    def receive(self, tensor: Tensor, sender: int) -> Tensor:
        return tensor

    def barrier(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 4, 8])
@pytest.mark.parametrize("tied", [True, False])
def test_table_and_forward_pass_agree_for_flan_t5_xxl(world: int, tied: bool) -> None:
    config = {
        "model_type": "t5", "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
        "num_decoder_layers": 24, "num_heads": 64, "feed_forward_proj": "relu" if tied else "gated-gelu",
        "tie_word_embeddings": tied,
    }  # fmt: skip
    weights = MetaWeights(config, world - 1, world, {"lm_head.weight"} if tied else set())

    with torch.device("meta"), torch.inference_mode():
        model = T5Model(Shape.of(config), weights, Unconnected(world - 1, world))
        sources, stores = [Source(0, (5,) * 7), Source(1, (5,) * 3)], model.stores(2, 16, 16)
        model.remember(sources, model.encode(sources), stores)
        hidden = model.forward(Batch.of([(0, 0), (0, 0)], read=[7, 3]), stores)

    assert weights.taken == list(weights.shapes)  # all of the table, once, in its order
    assert hidden.shape == (2, 4096)
    assert isinstance(family_of(config), T5)


def test_the_committed_checkpoint_fits_its_table(tiny_t5: Path) -> None:
    checkpoint = Checkpoint.open(Folder(tiny_t5))

    checkpoint.agree()

    config = json.loads((tiny_t5 / "config.json").read_text())
    stored = sum(tensor.bytes for tensor in checkpoint.tensors.values())
    assert checkpoint.family.bytes_per_rank(config, 1, 4, checkpoint.tensors) == stored
