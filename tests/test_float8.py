"""Matrices in 8-bit floats: what the rounding loses, the product that GPUs have, and whole models through it.

PyTorch's processors have the product, too, slowly; so everything but its speed can be shown here. The engine refuses
8-bit floats on a processor (test_native_gpu.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heavylift_runtime.native.architectures import Model, model_of
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.place import HOST, Placed
from heavylift_runtime.native.quantize.forms import Float8, Int8
from heavylift_runtime.native.quantize.joined import beside, stacked
from heavylift_runtime.native.quantize.rounding import float8_of, int8_of
from heavylift_runtime.native.sources import Folder
from tests.native_cores import forced_logits, model_on
from tests.rank_threads import on_ranks
from tests.test_quantize import relative, write

STEP = 2**-4
"""Half of the distance between neighbours, relative to the smaller one: 3 bits of mantissa."""
PROMPTS = [[5, 9, 33, 21, 7, 1], [12, 1], [40, 41, 8, 3, 55, 9, 30, 1]]


def test_each_number_is_rounded_to_one_that_is_at_most_half_a_step_away() -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 256) * torch.logspace(-6, 6, 64).unsqueeze(1)
    weight[3] = 0.0

    form = float8_of(weight)

    assert form.levels.dtype == torch.float8_e4m3fn and form.levels.nbytes == 64 * 256
    least = form.scale.unsqueeze(1) * 2**-10  # below the smallest number there is nothing to be relative to
    assert ((form.dense() - weight).abs() <= torch.maximum(weight.abs() * STEP, least)).all()
    assert torch.isfinite(form.dense()).all() and not form.dense()[3].any()


@pytest.mark.parametrize("rows", [1, 2, 5, 33])
@pytest.mark.parametrize("size", [(48, 128), (61, 96), (16, 32), (7, 50)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_product_is_that_of_the_rounded_matrix_and_rounded_rows(
    size: tuple[int, int], rows: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    form, bias, base = (
        float8_of(torch.randn(size)),
        torch.randn(size[0]).to(dtype),
        torch.randn(rows, size[0]).to(dtype),
    )
    x = (torch.randn(rows, size[1]) * torch.logspace(-3, 3, rows).unsqueeze(1)).to(dtype)

    found = Linear(form)(x)

    assert found.dtype == dtype
    rounded = float8_of(x).dense() @ form.dense().T
    assert relative(found, rounded) < 4 * torch.finfo(dtype).eps + 1e-5
    assert relative(found, x.float() @ form.dense().T) < STEP
    torch.testing.assert_close(Linear(form, bias)(x), found + bias)
    torch.testing.assert_close(Linear(form, bias).onto(base, x), found + bias + base)
    assert torch.isfinite(Linear(form)(torch.zeros_like(x))).all()


def test_forms_are_put_together_as_tensors_are() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(32, 64), torch.randn(32, 64) * 3
    forms = [float8_of(first), float8_of(second)]

    above, across, mixed = stacked(forms), beside(forms), stacked([forms[0], int8_of(second)])

    assert isinstance(above, Float8) and isinstance(across, Float8) and isinstance(mixed, Int8)
    assert torch.equal(above.dense(), torch.cat([form.dense() for form in forms]))
    assert relative(across.dense(), torch.cat([first, second], 1)) < STEP


def in_float8(folder: Path, group: Group) -> Model:
    """The model as a rank with a GPU loads it; here its device is the processor."""
    checkpoint = Checkpoint.open(Folder(folder), group.rank, group.world)
    with torch.inference_mode(), Loader(checkpoint, group.rank, group.world, torch.float32, quantize="fp8") as loader:
        return model_of(checkpoint.config, Placed(loader, HOST), group)


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("kind", ["tiny-t5", "llama", "qwen2", "mixtral", "gpt2", "gptj", "bloom"])
def test_a_models_logits_move_little(tiny_t5: Path, tmp_path: Path, kind: str, world: int) -> None:
    folder = tiny_t5 if kind == "tiny-t5" else write(tmp_path, kind)
    tokens = torch.tensor([[0, 7, 30], [0, 12, 4], [0, 55, 9]])
    exact = forced_logits(model_on(folder), PROMPTS, tokens)[1]

    ranks = on_ranks(world, lambda group: forced_logits(in_float8(folder, group), PROMPTS, tokens)[1])

    for found in ranks:
        assert torch.equal(found, ranks[0])
        assert 0.001 < (found - exact).std() / exact.std() < 0.2
