"""Quantized matrices: products, forms that are loaded as they were partitioned, and AWQ's and GPTQ's files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families.packing import packing_of
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.partition import partition
from heavylift_runtime.native.quantize.convert import convert
from heavylift_runtime.native.quantize.forms import DynamicInt8, Int4, Int8, Matrix, each
from heavylift_runtime.native.quantize.joined import beside, stacked
from heavylift_runtime.native.quantize.rounding import int4_of, int8_of
from heavylift_runtime.native.sources import Folder
from tests.decoder_checkpoints import write_decoder
from tests.native_cores import answers_of, core_of, model_on
from tests.t5_checkpoints import edit_tensors, write_t5

WIDE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
KINDS = {
    "llama": ("Llama", WIDE),
    "qwen2": ("Qwen2", {**WIDE, "tie_word_embeddings": True}),
    "mixtral": ("Mixtral", {**WIDE, "num_local_experts": 3, "num_experts_per_tok": 2}),
    "gpt2": ("GPT2", {"n_embd": 64, "n_layer": 1, "n_head": 4, "n_positions": 256}),
    "gptj": ("GPTJ", {"n_embd": 64, "n_layer": 1, "n_head": 4, "n_positions": 256, "rotary_dim": 4}),
    "bloom": ("Bloom", {"hidden_size": 64, "n_layer": 1, "n_head": 4}),
    "heads-of-80": ("Bloom", {"hidden_size": 320, "n_layer": 1, "n_head": 4}),  # two and a half groups each
    "odd": ("Llama", {**WIDE, "intermediate_size": 40}),
}
"""Families whose matrices lie differently, wide enough for whole groups on two ranks; `odd` is not everywhere."""


def write(folder: Path, kind: str) -> Path:
    if kind == "t5":
        return write_t5(folder, d_model=64, d_kv=16, d_ff=128)
    family, config = KINDS[kind]
    return write_decoder(folder, family, **config)


def relative(found: Tensor, expected: Tensor) -> float:
    """The worst row's error over its length."""
    return float(((found.float() - expected).norm(dim=1) / expected.norm(dim=1)).max())


def matrices(
    folder: Path, rank: int, world: int, quantize: str, dtype: torch.dtype = torch.float32
) -> dict[str, Matrix]:
    """Every matrix of a rank."""
    checkpoint = Checkpoint.open(Folder(folder), rank, world)
    found = {}
    with torch.inference_mode(), Loader(checkpoint, rank, world, torch.float32, quantize=quantize) as loader:
        for weight in checkpoint.family.weights(checkpoint.config):
            if not loader.has(weight.name):
                continue
            taken = loader.matrix(weight.name) if weight.matrix else loader.take(weight.name)
            if weight.matrix:
                found[weight.name] = taken
    return found


def parts(matrix: Matrix) -> list[Tensor]:
    held: list[Tensor] = []
    each(matrix, lambda part: held.append(part) or part)  # type: ignore[func-returns-value]  # it is to see them only
    return held


def same(ours: dict[str, Matrix], theirs: dict[str, Matrix]) -> bool:
    return ours.keys() == theirs.keys() and all(
        type(ours[name]) is type(theirs[name])
        and all(torch.equal(*pair) for pair in zip(parts(ours[name]), parts(theirs[name]), strict=True))
        for name in ours
    )


@pytest.mark.parametrize("rows", [1, 2, 5, 33])
@pytest.mark.parametrize("size", [(48, 128), (61, 96), (16, 32)])
def test_products_are_those_of_the_same_matrix_in_fp32(size: tuple[int, int], rows: int) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(size), torch.randn(size[0]), torch.randn(rows, size[1])
    x *= torch.logspace(-3, 3, rows).unsqueeze(1)  # rows that are large must not blur those that are small
    base = torch.randn(rows, size[0])

    for form, most in ((int8_of(weight), 2e-4), (int4_of(weight, 32), 2e-2)):
        linear, expected = Linear(form, bias), x @ form.dense().T
        bare = Linear(form)

        assert relative(bare(x), expected) < most
        assert torch.allclose(linear(x), bare(x) + bias, atol=1e-6)
        assert torch.allclose(linear.onto(base, x), bare(x) + bias + base, atol=1e-5)
        assert bare(x.bfloat16()).dtype == torch.bfloat16
    assert relative(Linear(DynamicInt8(*parts(int8_of(weight))))(x), x @ weight.T) < 0.05


def test_a_row_of_int8_never_depends_on_the_rows_beside_it() -> None:
    torch.manual_seed(0)
    linear, x = Linear(int8_of(torch.randn(96, 64))), torch.randn(7, 64) * torch.logspace(-2, 2, 7).unsqueeze(1)

    together = linear(x)

    assert all(torch.equal(together[row : row + 1], linear(x[row : row + 1])) for row in range(7))


def test_rounding_loses_what_so_many_levels_must_lose() -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 256)
    weight[3] = 0.0

    eight, four = int8_of(weight), int4_of(weight, 32)

    assert relative(eight.dense()[4:], weight[4:]) < 0.01
    assert relative(four.dense()[4:], weight[4:]) < 0.11
    assert not eight.dense()[3].any() and not four.dense()[3].any()
    assert torch.isfinite(Linear(eight)(torch.zeros(2, 256))).all()


def test_forms_are_put_together_as_tensors_are() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(32, 64), torch.randn(32, 64) * 3

    for make in (int8_of, lambda weight: int4_of(weight, 32)):
        forms = [make(first), make(second)]
        dense = [form.dense() for form in forms]
        above, across = stacked(forms), beside(forms)
        assert not isinstance(above, Tensor) and not isinstance(across, Tensor)
        assert torch.equal(above.dense(), torch.cat(dense))
        assert relative(across.dense(), torch.cat(dense, 1)) < 0.01


def test_unlike_forms_are_put_together_as_one_that_every_type_is_multiplied_by() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(32, 96), torch.randn(32, 256) * 3
    eight, four, wide = int8_of(first), int4_of(first, 32), int4_of(second, 128)
    dense = [form.dense() for form in (four, wide)]

    grouped, mixed = beside([four, wide]), beside([eight, wide])
    plain = [beside(parts) for parts in ([second.bfloat16(), eight], [eight, second.bfloat16()])]

    assert isinstance(grouped, Int4) and torch.equal(grouped.dense(), torch.cat(dense, 1))
    assert isinstance(mixed, Int8) and relative(mixed.dense(), torch.cat([eight.dense(), dense[1]], 1)) < 0.01
    assert all(isinstance(matrix, Tensor) and matrix.dtype == torch.bfloat16 for matrix in plain)
    above = stacked([int8_of(first), second[:, :96]])
    assert isinstance(above, Tensor) and torch.equal(above[32:], second[:, :96])


@pytest.mark.parametrize("quantize", ["int8", "dynamic_int8", "int4"])
@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_a_quantized_model_answers_in_every_type(tmp_path: Path, kind: str, quantize: str) -> None:
    folder = write(tmp_path / "model", kind)

    def tokens(dtype: torch.dtype) -> list[int]:
        model = model_on(folder, dtype=dtype, quantize=quantize)
        (answer,) = answers_of(core_of(model), [[5, 9, 33, 7]], [4])
        return answer.tokens

    assert tokens(torch.float16) == tokens(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("GPTNeoX", {"hidden_size": 80, "num_attention_heads": 1, "intermediate_size": 320, "num_hidden_layers": 1}),
        ("GPTJ", {"n_embd": 48, "n_head": 3, "n_layer": 1, "rotary_dim": 4}),
    ],
)
def test_layers_that_multiply_int4_and_int8_at_once_answer(
    tmp_path: Path, family: str, config: dict[str, int], dtype: torch.dtype
) -> None:
    model = model_on(write_decoder(tmp_path / "model", family, **config), dtype=dtype, quantize="int4")

    (answer,) = answers_of(core_of(model), [[5, 9, 33, 7]], [4])

    assert answer.tokens


def test_matrices_may_be_taken_in_another_order_than_the_tables(tmp_path: Path) -> None:
    folder = write(tmp_path / "plain", "llama")
    checkpoint = Checkpoint.open(Folder(folder))
    names = [weight.name for weight in checkpoint.agree() if weight.matrix]
    others = [weight.name for weight in checkpoint.agree() if not weight.matrix]

    with Loader(checkpoint, 0, 1, torch.float32, quantize="int8") as loader:
        found = {name: loader.matrix(name) for name in reversed(names)}
        for name in others:
            loader.take(name)

    assert same({name: found[name] for name in names}, matrices(folder, 0, 1, "int8"))


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("quantize", ["int8", "int4"])
@pytest.mark.parametrize("kind", ["t5", *KINDS])
def test_a_partition_holds_what_is_rounded_at_run_time_bit_for_bit(
    tmp_path: Path, kind: str, quantize: str, world: int
) -> None:
    folder = write(tmp_path / "plain", kind)
    partition(Folder(folder), tmp_path / "parts", world, quantize=quantize)

    for rank in range(world):
        here = matrices(folder, rank, world, quantize)
        assert same(matrices(tmp_path / "parts", rank, world, quantize), here)

    assert any(isinstance(matrix, Int4 if quantize == "int4" else Int8) for matrix in here.values())
    if kind == "odd" and quantize == "int4":  # 40 inputs are no whole groups
        assert isinstance(here["model.layers.0.mlp.down_proj.weight"], Int8)
    if kind == "llama":
        assert isinstance(here["lm_head.weight"], Int8)


def test_a_partition_of_another_quantization_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "plain", "llama")
    partition(Folder(folder), tmp_path / "eight", 1, quantize="int8")
    partition(Folder(folder), tmp_path / "none", 1)

    assert isinstance(matrices(tmp_path / "eight", 0, 1, "dynamic_int8")["lm_head.weight"], DynamicInt8)
    with pytest.raises(LoadError, match=r"in int8, and 'quantize' is 'none'; it can be 'int8' or 'dynamic_int8'"):
        matrices(tmp_path / "eight", 0, 1, "none")
    with pytest.raises(LoadError, match=r"stored plain, and 'quantize' is 'int8'; it can be 'none'"):
        matrices(tmp_path / "none", 0, 1, "int8")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["awq", "gptq"])
@pytest.mark.parametrize("kind", ["t5", "llama", "mixtral", "gpt2", "bloom"])
def test_published_layouts_are_read_by_their_own_definition(tmp_path: Path, kind: str, method: str) -> None:
    folder = write(tmp_path / "plain", kind)
    convert(Folder(folder), tmp_path / method, method, 32)
    files = load_file(tmp_path / method / "model.safetensors")

    found = matrices(tmp_path / method, 0, 1, "none")

    assert any(isinstance(matrix, Int4) for matrix in found.values())
    for name, matrix in found.items():
        if isinstance(matrix, Int4):
            expected = by_definition(files, name.removesuffix(".weight"), method)
            assert relative(matrix.dense(), expected) < 0.008  # bf16's scales
    plain = matrices(folder, 0, 1, "none")
    assert all(relative(dense(found[name]), dense(plain[name])) < 0.15 for name in plain)


def dense(matrix: Matrix) -> Tensor:
    return matrix if isinstance(matrix, Tensor) else matrix.dense()


def by_definition(files: dict[str, Tensor], base: str, method: str) -> Tensor:
    """(out, in): (level - zero) * scale, number by number, as the projects that write these files document it."""
    qweight, qzeros, scales = (files[f"{base}.{name}"].tolist() for name in ("qweight", "qzeros", "scales"))
    order = [0, 4, 1, 5, 2, 6, 3, 7] if method == "awq" else list(range(8))
    inputs, outputs = 32 * len(scales), len(scales[0])

    def number(packed: int, place: int) -> int:
        return packed >> 4 * order[place] & 15

    return torch.tensor(
        [
            [
                (
                    number(qweight[i][o // 8], o % 8) - number(qzeros[i // 32][o // 8], o % 8)
                    if method == "awq"
                    else number(qweight[i // 8][o], i % 8) - number(qzeros[i // 32][o // 8], o % 8) - 1
                )
                * scales[i // 32][o]
                for i in range(inputs)
            ]
            for o in range(outputs)
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["awq", "gptq"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "heads-of-80"])
def test_ranks_hold_parts_of_published_matrices_also_from_a_partition(tmp_path: Path, kind: str, method: str) -> None:
    folder = write(tmp_path / "plain", kind)
    convert(Folder(folder), tmp_path / method, method, 32)
    partition(Folder(tmp_path / method), tmp_path / "parts", 2)
    checkpoint = Checkpoint.open(Folder(folder))
    table = {weight.name: weight for weight in checkpoint.family.weights(checkpoint.config)}

    whole = matrices(tmp_path / method, 0, 1, method)
    halves = [matrices(tmp_path / method, rank, 2, method) for rank in range(2)]

    for rank in range(2):
        assert same(matrices(tmp_path / "parts", rank, 2, method), halves[rank])
    for name, matrix in whole.items():
        pair, fused = [dense(half[name]) for half in halves], table[name].fused
        if table[name].split.name == "ROW":
            assert torch.equal(torch.cat(pair, 1), dense(matrix))
        else:
            thirds = [half.chunk(fused) for half in pair]
            assert torch.equal(torch.cat([part for both in zip(*thirds, strict=True) for part in both]), dense(matrix))


def test_groups_that_lie_apart_and_ranks_that_cut_groups_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "plain", "llama")
    convert(Folder(folder), tmp_path / "gptq", "gptq", 32)
    convert(Folder(folder), tmp_path / "wide", "awq", 64)

    shuffled = shutil.copytree(tmp_path / "gptq", tmp_path / "shuffled")
    edit_tensors(shuffled, lambda files: {k: v.flip(0) if k.endswith("g_idx") else v for k, v in files.items()})

    with pytest.raises(LoadError, match=r"q_proj.qweight: its groups are of inputs that lie apart \('desc_act'\)"):
        matrices(shuffled, 0, 1, "none")
    with pytest.raises(LoadError, match=r"64 inputs are no whole groups of 64 on each of 2 ranks"):
        matrices(tmp_path / "wide", 0, 2, "none")


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"quant_method": "bitsandbytes", "bits": 4, "group_size": 32}, r"is 'bitsandbytes'; known are 'gptq', 'awq'"),
        ({"quant_method": "awq", "bits": 8, "group_size": 128}, r"'bits' is 8; only 4 bits are known"),
        ({"quant_method": "awq", "bits": 4, "group_size": 100}, r"'group_size' is 100; known are 32, 64, 128, 256"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"}, r"only 'gemm' is known"),
        ("awq", r"'quantization_config' is 'awq'; it must be an object"),
    ],
)  # fmt: skip
def test_other_quantizations_are_refused_with_a_sentence(said: object, fault: str) -> None:
    with pytest.raises(LoadError, match=fault):
        packing_of({"quantization_config": said})
    assert packing_of({}) is None and packing_of(json.loads('{"quantization_config": null}')) is None


@pytest.mark.slow
def test_the_command_writes_a_checkpoint_once_and_says_what_is_wrong_with_its_arguments(tmp_path: Path) -> None:
    folder = write(tmp_path / "plain", "llama")

    def quantize(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "heavylift.cli", "quantize", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    wanted = ("--out", str(tmp_path / "awq"), "--method", "awq", "--group-size", "32")
    done, again, strange = quantize(*wanted), quantize(*wanted), quantize(*wanted[:4], "--group-size", "33")

    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "awq" / "config.json").read_text())["quantization_config"]["group_size"] == 32
    assert again.returncode == strange.returncode == 2
    assert "name a folder that is not there" in again.stderr
    assert "invalid choice: 33" in strange.stderr
