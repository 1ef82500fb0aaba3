"""engine=neuronx over the recorded interface of AWS's SDK: the model's own tokens, and sentences for what cannot be."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from heavylift.plan.validity.neuron import INT8
from heavylift_runtime.engines import neuronx, neuronx_build
from heavylift_runtime.engines.engine import Engine, Request, Sampling
from heavylift_runtime.engines.neuronx_build import Build
from heavylift_runtime.engines.neuronx_sdk import instance_family
from heavylift_runtime.engines.registry import ENGINES, NXD_INFERENCE
from heavylift_runtime.errors import LoadError, OptionsError, PromptError
from heavylift_runtime.options import Options
from tests.decoder_checkpoints import KINDS, continuation, oracle, write_decoder
from tests.neuron_sdk import recorded_sdk

KIND_AND_LIBRARY = [
    *((kind, "tnx") for kind in ("gpt2", "gptj", "gpt-neox", "opt", "bloom", "llama", "mistral-window", "mixtral")),
    *((kind, "nxdi") for kind in ("llama", "mistral-window", "mixtral", "qwen2", "qwen3")),
]
PROMPTS = ([5, 7, 9, 1], [4], [11, 3, 8, 20, 33, 7], [5, 1], [9, 9, 9, 9, 9])


@pytest.fixture(autouse=True)
def sdk() -> Iterator[None]:
    torch.set_num_threads(1)
    with recorded_sdk():
        os.environ["NEURON_PLATFORM_TARGET_OVERRIDE"] = "inf2"
        yield


def checkpoint(folder: Path, kind: str = "gpt2", **more: Any) -> Path:
    family, config = KINDS[kind]
    write_decoder(folder, family, **{**config, **more})
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return folder


def options(rows: int = 3, **own: str) -> Options:
    return replace(Options(), engine="neuronx", batch_size=rows, properties=own)


def load(folder: Path, asked: Options) -> Engine:
    scratch = folder.parent / f"{folder.name}.scratch"
    scratch.mkdir(exist_ok=True)
    return neuronx.load(asked, folder, 0, 1, f"file://{scratch}/rendezvous")


def tokens_of(engine: Engine, prompts: Sequence[Sequence[int]], count: int = 7) -> list[list[int]]:
    """Greedy, begun one after another, so that rows join those that run."""
    found: list[list[int]] = [[] for _ in prompts]
    for key, prompt in enumerate(prompts):
        engine.add(key, Request(tuple(prompt), Sampling(count + key, ignore_eos=True)))
        for piece in engine.step():
            found[piece.key] += [token.id for token in piece.tokens]
    while engine.busy:
        for piece in engine.step():
            found[piece.key] += [token.id for token in piece.tokens]
    return found


def expected(folder: Path, prompts: Sequence[Sequence[int]], count: int = 7) -> list[list[int]]:
    model = oracle(folder)
    model.generation_config.eos_token_id = None  # type: ignore[union-attr]  # it has one
    return [continuation(model, list(prompt), count + key) for key, prompt in enumerate(prompts)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "library"), KIND_AND_LIBRARY)
def test_requests_that_come_and_go_get_the_models_own_tokens(kind: str, library: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", kind)
    engine = load(folder, options(model_loader=library, n_positions="64"))

    assert tokens_of(engine, PROMPTS) == expected(folder, PROMPTS)


def test_a_copy_that_starts_again_in_the_same_server_loads_what_the_first_one_compiled(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", "llama")
    asked = options(model_loader="nxdi", n_positions="64")
    first = tokens_of(load(folder, asked), PROMPTS)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "model.scratch").rglob("*")}

    again = tokens_of(load(folder, asked), PROMPTS)

    assert again == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "model.scratch").rglob("*")} == made


def test_a_row_that_is_longer_than_its_padded_batch_has_room_for_is_read_again(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", "gpt2")
    engine = load(folder, options(rows=2, n_positions="24"))
    long, short = list(range(3, 23)), [5, 7]

    engine.add(0, Request(tuple(long), Sampling(3, ignore_eos=True)))
    engine.add(1, Request(tuple(short), Sampling(20, ignore_eos=True)))
    found: list[list[int]] = [[], []]
    while engine.busy:
        for piece in engine.step():
            found[piece.key] += [token.id for token in piece.tokens]

    model = oracle(folder)
    model.generation_config.eos_token_id = None  # type: ignore[union-attr]  # it has one
    assert found == [continuation(model, long, 3), continuation(model, short, 20)]


def test_gptjs_batches_hold_rows_of_one_length_for_it_has_no_padding(tmp_path: Path) -> None:
    engine = load(checkpoint(tmp_path / "model", "gptj"), options())
    for key, prompt in enumerate([(5, 7, 9), (5, 7), (8, 8, 8)]):
        engine.add(key, Request(prompt, Sampling(2, ignore_eos=True)))

    steps = [[piece.key for piece in engine.step()] for _ in range(4)]

    assert steps == [[0, 2], [0, 2], [1], [1]]


@pytest.mark.parametrize("library", ["tnx", "nxdi"])
def test_a_prompt_is_read_once_and_every_later_token_is_one_step(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(checkpoint(tmp_path / "model", "llama"), options(model_loader=library))
    told: list[tuple[str, list[int]]] = []
    for name in ("read", "step"):
        call = getattr(type(engine._device), name)  # type: ignore[attr-defined]  # of the engine that was loaded
        spy = lambda self, rows, call=call, name=name: (told.append((name, list(rows))), call(self, rows))[1]  # noqa: E731  # two of one shape
        monkeypatch.setattr(type(engine._device), name, spy)  # type: ignore[attr-defined]  # the same

    engine.add(0, Request((5, 7, 9), Sampling(3, ignore_eos=True)))
    engine.step()
    engine.add(1, Request((8, 8), Sampling(2, ignore_eos=True)))
    while engine.busy:
        engine.step()

    assert told == [("read", [0]), ("step", [0]), ("read", [1]), ("step", [0, 1])]


def test_int8_weights_are_the_sdks_and_its_scores_are_near(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", "llama")
    asked = replace(options(model_loader="tnx"), quantize="static_int8")

    rounded = score(load(folder, asked))
    plain = score(load(folder, options(model_loader="tnx")))

    assert rounded != plain and rounded == pytest.approx(plain, abs=0.3)


def score(engine: Engine) -> float:
    engine.add(0, Request((5, 7, 9), Sampling(1, logprobs=0)))
    (piece,) = engine.step()
    assert piece.tokens[0].logprob is not None
    return piece.tokens[0].logprob


@pytest.mark.parametrize(
    ("kind", "given", "sentence"),
    [
        ("gpt2", {"n_positions": "512"}, r"option.n_positions=512 is more than the model's 256 positions"),
        ("gpt2", {"n_positions": "many"}, "option.n_positions must be whole numbers from 1"),
        ("gpt2", {"amp": "fp16"}, "option.amp must be f32 or f16 or bf16: got 'fp16'"),
        ("gpt2", {"model_loader": "nxdi"}, "neuronx-distributed-inference has no model_type 'gpt2' here"),
        ("gptj", {"context_length_estimate": "64"}, "reads prompts token by token; leave it out"),
        ("gptj", {"fuse_qkv": "true"}, "transformers-neuronx's gptj takes no NeuronConfig"),
        ("gpt-neox", {"unroll": "2"}, "option.unroll: transformers-neuronx's gpt_neox has none"),
        ("gpt-neox-sequential", {}, "use_parallel_residual=false"),
        ("llama", {"group_query_attention": "replicated-heads"}, "Transformers NeuronX's; NxD Inference has nothing"),
        ("llama", {"context_length_estimate": "300", "n_positions": "128"}, "context_length_estimate=300 is more than"),
        ("qwen2", {"model_loader": "tnx"}, "transformers-neuronx has no model_type 'qwen2' here"),
    ],
)
def test_what_the_sdk_cannot_do_is_refused_before_it_is_called(
    kind: str, given: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(LoadError, match=sentence):
        load(checkpoint(tmp_path / "model", kind), options(**given))


def test_a_degree_divides_the_heads_of_a_class_that_pads_none(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", "gpt2")

    with pytest.raises(LoadError, match=r"=8 does not divide the 4 attention heads .* use 1 or 2 or 4"):
        load(folder, replace(options(), tensor_parallel_degree=8))
    assert Build.of(replace(options(), tensor_parallel_degree=8), {"model_type": "llama", "num_attention_heads": 4})


def test_a_prompt_that_was_not_compiled_for_is_refused(tmp_path: Path) -> None:
    engine = load(checkpoint(tmp_path / "model", "llama"), options(n_positions="64", context_length_estimate="16"))

    with pytest.raises(PromptError, match=r"compiled for 64 together \(option.n_positions\)"):
        engine.add(0, Request((5,) * 10, Sampling(60)))
    with pytest.raises(PromptError, match="compiled for prompts of at most 16"):
        engine.add(0, Request((5,) * 20, Sampling(3)))
    assert not engine.busy


def test_without_the_sdk_it_says_what_to_install_and_that_pypis_packages_are_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "model")
    monkeypatch.setattr("heavylift_runtime.engines.neuronx_sdk.version", lambda name: "0.1")

    with pytest.raises(
        LoadError, match=r"an empty one: pip install transformers-neuronx --extra-index-url=https://pip"
    ):
        load(folder, options())


@pytest.mark.parametrize(
    ("product", "found"),
    [("inf2.8xlarge\n", "inf2"), ("ml.trn2.48xlarge", "trn2"), ("m5.large", "unknown"), (None, "unknown")],
)
def test_the_machine_says_what_it_is(
    product: str | None, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEURON_PLATFORM_TARGET_OVERRIDE")
    monkeypatch.setattr("heavylift_runtime.engines.neuronx_sdk._PRODUCT", tmp_path / "product_name")
    if product is not None:
        (tmp_path / "product_name").write_text(product)

    assert instance_family() == found


def test_lmis_names_are_read_and_an_unknown_one_is_refused_with_the_nearest() -> None:
    lmi = {
        "engine": "Python", "option.entryPoint": "djl_python.transformers_neuronx", "option.n_positions": "256",
        "option.amp": "bf16", "option.unroll": "2", "option.neuron_optimize_level": "2", "option.rolling_batch": "tnx",
        "option.context_length_estimate": "64,128", "option.load_split_model": "true", "batch_size": "4",
        "option.low_cpu_mem_usage": "true", "option.compiled_graph_path": "s3://bucket/neffs/",
    }  # fmt: skip

    parsed = Options.parse(lmi, {})
    build = Build.of(parsed, {"model_type": "opt", "max_position_embeddings": 2048})

    assert (parsed.engine, parsed.ranks, build.rows) == ("neuronx", 1, 4)
    assert (build.lengths, build.prompts, build.dtype) == ((128, 256), (64, 128), "bf16")
    assert (build.unroll, build.flags) == (2, ("-O2",))
    with pytest.raises(OptionsError, match=r"'option.n_position' .* did you mean 'option.n_positions'"):
        Options.parse({**lmi, "option.n_position": "3"}, {})


def test_the_recorded_interface_refuses_what_the_sdk_refuses(tmp_path: Path) -> None:
    tnx = importlib.import_module("transformers_neuronx")
    folder = checkpoint(tmp_path / "model", "gptj")
    model = tnx.NeuronAutoModelForCausalLM.from_pretrained(str(folder), batch_size=1, n_positions=64, tp_degree=1)

    with pytest.raises(KeyError, match="invalid key"):
        tnx.NeuronAutoModelForCausalLM.from_pretrained(str(folder), neuron_config=tnx.NeuronConfig())
    with pytest.raises(AssertionError, match="unexpected arguments"):
        tnx.NeuronConfig(continous_batching=None)
    with pytest.raises(AttributeError, match="to_neuron"):
        model(torch.tensor([[5]]), torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(AssertionError, match="serialization is not enabled"):
        model.save(str(tmp_path))


def test_the_plan_knows_the_same_families_that_pad_heads_and_round_weights() -> None:
    tables = neuronx_build._FAMILIES
    assert set(ENGINES["neuronx"].families) == {family for table in tables.values() for family in table}
    assert {family for family, limits in tables["tnx"].items() if limits.quantizes} == set(INT8)
    assert {family for table in tables.values() for family, limits in table.items() if limits.pads_heads} == set(
        NXD_INFERENCE
    )


def test_int8_weights_choose_the_library_that_has_them(tmp_path: Path) -> None:
    config = {"model_type": "llama", "max_position_embeddings": 256}

    assert Build.of(options(), config).library == "nxdi"
    assert Build.of(replace(options(), quantize="static_int8"), config).library == "tnx"
