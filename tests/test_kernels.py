"""The C kernels against what they stand for, number by number, and where there are none."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heavylift_runtime.native.kernels import calls, library
from heavylift_runtime.native.kernels.lookups import Angles, Seen
from heavylift_runtime.native.layers import ACTIVATIONS
from heavylift_runtime.native.linear import Rounded, way_of
from heavylift_runtime.native.quantize.forms import DynamicInt8
from heavylift_runtime.native.quantize.rounding import int8_of
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.native_cores import answers_of, core_of, model_on
from tests.t5_checkpoints import write_t5

needs_kernels = pytest.mark.skipif(
    library.why() is not None, reason=f"no kernels on this machine: {library.why()}"
)  # what is tested then is PyTorch's own, by the other tests
in_tiles = pytest.mark.parametrize(
    "tiles",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(not library.in_tiles(), reason="this processor has no AMX, or not for us")
        ),
    ],
)
DTYPES = (torch.float32, torch.bfloat16)
SIZES = st.integers(1, 150)
ROWS = st.one_of(st.integers(0, 20), st.sampled_from([23, 24, 25, 31, 48, 300]))
"""Of a decoding step, and of a prompt."""


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@contextmanager
def tiles_if(wanted: bool) -> Iterator[None]:
    """Products in tiles, or without, where they could be."""
    if not library.in_tiles():  # nor would the library know of a state, if the compiler was an older one
        yield
        return
    state = ctypes.c_int32.in_dll(library.library(), "tiles_state")  # type: ignore[arg-type]  # there is one
    before, state.value = state.value, -1 if wanted else 0  # -1: asked for at the next product
    try:
        yield
    finally:
        state.value = before


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threads(1):
        yield


def close(found: Tensor, exact: Tensor, dtype: torch.dtype, size: float) -> None:
    """`size`: of the numbers that were summed; fp32 sums lose some last bits of it, bf16 results a 256th."""
    tolerance = 2e-6 * size if dtype == torch.float32 else 2**-8 * float(exact.abs().max()) + 1e-5 * size
    torch.testing.assert_close(found.double(), exact, atol=tolerance, rtol=0)


@needs_kernels
@in_tiles
@settings(max_examples=60)
@given(rows=ROWS, outputs=SIZES, inputs=SIZES, dtype=st.sampled_from(DTYPES), seed=st.integers(0, 99))
def test_a_product_is_the_sum_of_the_products(
    rows: int, outputs: int, inputs: int, dtype: torch.dtype, seed: int, tiles: bool
) -> None:
    torch.manual_seed(seed)
    x, weight, bias, base = (
        torch.randn(*shape).to(dtype) for shape in ((rows, inputs), (outputs, inputs), (outputs,), (rows, outputs))
    )

    product = calls.Product(weight, bias)
    with tiles_if(tiles):
        found, total = product(x), product(x, base)

    exact = F.linear(x.double(), weight.double(), bias.double())
    if rows:
        close(found, exact, dtype, inputs)
        close(total, exact + base.double(), dtype, inputs)
    assert found.shape == total.shape == (rows, outputs)


@needs_kernels
@in_tiles
@settings(max_examples=60)
@given(
    rows=ROWS.filter(bool), outputs=SIZES, inputs=SIZES, dtype=st.sampled_from([*DTYPES, torch.float16]),
    dynamic=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_whole_numbers_give_what_pytorchs_product_gives(
    rows: int, outputs: int, inputs: int, dtype: torch.dtype, dynamic: bool, seed: int, tiles: bool
) -> None:
    torch.manual_seed(seed)
    form = int8_of(torch.randn(outputs, inputs))
    form = DynamicInt8(form.levels, form.scale) if dynamic else form
    x, base = torch.randn(rows, inputs).to(dtype), torch.randn(rows, outputs).to(dtype)

    with tiles_if(tiles):
        found, theirs = calls.Product(form)(x, base), Rounded(form, None)(x, base)

    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(found, theirs, atol=tolerance * float(theirs.abs().max() + 1e-3), rtol=0)


@needs_kernels
@in_tiles
@pytest.mark.parametrize("kind", ["fp32", "bf16", "int8", "dynamic int8"])
@pytest.mark.parametrize("shape", [(64, 96), (257, 333), (768, 768)])
def test_a_rows_product_does_not_depend_on_the_rows_beside_it(kind: str, shape: tuple[int, int], tiles: bool) -> None:
    torch.manual_seed(1)
    weight, x = torch.randn(shape), torch.randn(601, shape[1])
    form = int8_of(weight)
    product = {
        "fp32": lambda: calls.Product(weight),
        "bf16": lambda: calls.Product(weight.bfloat16()),
        "int8": lambda: calls.Product(form),
        "dynamic int8": lambda: calls.Product(DynamicInt8(form.levels, form.scale)),
    }[kind]()
    x = x.bfloat16() if kind == "bf16" else x

    with tiles_if(tiles):
        together = product(x)

        for count in (1, 2, 3, 4, 5, 6, 7, 12, 17, 24, 33, 100, 257):
            assert torch.equal(product(x[:count]), together[:count])
            assert torch.equal(product(x[601 - count :]), together[601 - count :])


@needs_kernels
@in_tiles
@pytest.mark.parametrize("dynamic", [False, True])
def test_whole_numbers_are_the_same_bits_in_tiles_and_without(dynamic: bool, tiles: bool) -> None:
    torch.manual_seed(9)
    form = int8_of(torch.randn(77, 333))
    product = calls.Product(DynamicInt8(form.levels, form.scale) if dynamic else form, torch.randn(77))
    x, base = torch.randn(45, 333), torch.randn(45, 77)

    with tiles_if(tiles):
        found = product(x, base)

    assert torch.equal(
        found, torch.cat([product(row, under) for row, under in zip(x.split(1), base.split(1), strict=True)])
    )


@needs_kernels
@pytest.mark.parametrize("rows", [20, 45])
@pytest.mark.parametrize("outputs", [8, 2001, 4096])
def test_threads_divide_the_outputs_and_change_nothing(outputs: int, rows: int) -> None:
    torch.manual_seed(2)
    weight, x = torch.randn(outputs, 300), torch.randn(rows, 300)
    products = [calls.Product(weight), calls.Product(int8_of(weight))]
    half = calls.Product(weight.bfloat16())
    alone = [*(product(x) for product in products), half(x.bfloat16())]

    with threads(3):
        together = [*(product(x) for product in products), half(x.bfloat16())]

    assert all(map(torch.equal, alone, together))


@needs_kernels
def test_activations_of_another_size_or_type_are_refused() -> None:
    product = calls.Product(torch.randn(8, 16))

    with pytest.raises(AssertionError, match="17 inputs for a weight of 16"):
        product(torch.randn(1, 17))
    with pytest.raises(KeyError):
        product(torch.randn(1, 16).bfloat16())


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("product", [pytest.param("kernels", marks=needs_kernels), "PyTorch's"])
def test_whole_numbers_hide_no_nan_and_hand_it_to_no_other_row(product: str, dynamic: bool) -> None:
    torch.manual_seed(3)
    form = int8_of(torch.randn(40, 70))
    form = DynamicInt8(form.levels, form.scale) if dynamic else form
    multiply = calls.Product(form) if product == "kernels" else Rounded(form, None)
    x = torch.randn(3, 70)
    sound = multiply(x)

    for place in (0, 33, 69):
        lost = x.clone()
        lost[1, place] = torch.nan
        found = multiply(lost)

        assert found[1].isnan().all()
        assert torch.equal(found[[0, 2]], sound[[0, 2]])


@needs_kernels
def test_zeros_and_huge_activations_stay_what_they_are_in_whole_numbers() -> None:
    form = int8_of(torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.5]]))
    x = torch.tensor([[0.0, 0.0, 0.0], [1e30, 0.0, 0.0], [1e-20, 0.0, 0.0]])

    found = calls.Product(form)(x)

    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0], [0.0, 1e30], [0.0, 1e-20]]))


@needs_kernels
@settings(max_examples=40)
@given(rows=st.integers(0, 5), width=SIZES, dtype=st.sampled_from(DTYPES), seed=st.integers(0, 99))
def test_a_norm_is_pytorchs(rows: int, width: int, dtype: torch.dtype, seed: int) -> None:
    torch.manual_seed(seed)
    x, weight, bias = (torch.randn(rows, width) * 30).to(dtype), *torch.randn(2, width).to(dtype).unbind(0)

    found, centered = calls.norm(x, weight, 1e-6), calls.norm(x + 7, weight, 1e-6, bias)

    exact = F.rms_norm(x.double(), (width,), weight.double(), 1e-6)
    torch.testing.assert_close(found.double(), exact, atol=1e-6, rtol=2e-6 if dtype == torch.float32 else 2**-8)
    if width > 1:  # one number is its own mean, and what is left of it is what rounding left
        exact = F.layer_norm((x + 7).double(), (width,), weight.double(), bias.double(), 1e-6)
        torch.testing.assert_close(centered.double(), exact, atol=2e-5, rtol=2e-5 if dtype == torch.float32 else 2**-7)


@needs_kernels
@settings(max_examples=40)
@given(rows=st.integers(0, 5), heads=st.integers(1, 5), width=st.integers(1, 70), dtype=st.sampled_from(DTYPES))
def test_heads_are_normed_each_for_itself_and_what_lies_beside_them_stays(
    rows: int, heads: int, width: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(width)
    wide, weight = (torch.randn(rows, heads + 2, width) * 30).to(dtype), torch.randn(heads, width).to(dtype)
    before = wide.clone()

    calls.norm_heads_(wide[:, :heads], weight, 1e-6)

    exact = F.rms_norm(before[:, :heads].double(), (width,), None, 1e-6) * weight.double()
    tolerance = 2e-6 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(wide[:, :heads].double(), exact, atol=1e-6, rtol=tolerance)
    assert torch.equal(wide[:, heads:], before[:, heads:])


@needs_kernels
@settings(max_examples=40)
@given(rows=st.integers(0, 5), half=SIZES, dtype=st.sampled_from(DTYPES), scale=st.sampled_from([1, 50, 1e30]))
def test_activations_are_pytorchs_and_a_gate_is_one_half_activated_times_the_other(
    rows: int, half: int, dtype: torch.dtype, scale: float
) -> None:
    torch.manual_seed(half)
    inner = (torch.randn(rows, 2 * half) * torch.tensor([scale] * half + [1] * half)).to(dtype)
    first, second = inner[:, :half].double(), inner[:, half:].double()

    for name, activation in ACTIVATIONS.items():
        plain, gated = calls.bend(inner[:, :half], name), calls.bend(inner, name, gated=True)

        tolerance = {"atol": 1e-6, "rtol": 1e-5 if dtype == torch.float32 else 2**-8}
        torch.testing.assert_close(plain, activation(first).to(dtype), **tolerance)
        torch.testing.assert_close(gated, (activation(first) * second).to(dtype), **tolerance)


@needs_kernels
@settings(max_examples=60)
@given(
    rows=st.integers(1, 5), heads=st.integers(1, 4), half=st.integers(1, 40), rest=st.integers(0, 9),
    paired=st.booleans(), dtype=st.sampled_from(DTYPES),
)  # fmt: skip
def test_heads_are_turned_as_pytorch_turns_them(
    rows: int, heads: int, half: int, rest: int, paired: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(half)
    width, turned = 2 * half + rest, 2 * half
    wide = torch.randn(rows, heads + 2, width).to(dtype)
    known, positions = torch.randn(2, 9, 1, turned).to(dtype), torch.randint(9, (rows,))
    cosines, sines = known[:, positions].unbind(0)
    part = wide[:, :heads, :turned].double()
    partners = part.unflatten(2, (half, 2)).flip(3).flatten(2) if paired else part.roll(half, 2)
    expected = wide.clone().double()
    expected[:, :heads, :turned] = part * cosines.double() + partners * sines.double()

    calls.turn_(wide[:, :heads], Angles(known[0], known[1], positions), paired=paired)

    tolerance = 1e-5 if dtype == torch.float32 else 2**-6
    torch.testing.assert_close(wide.double(), expected, atol=tolerance, rtol=tolerance)


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_lie_beside_each_other(dtype: torch.dtype) -> None:
    left, right = torch.randn(3, 5).to(dtype), torch.randn(3, 9).to(dtype)

    assert torch.equal(calls.beside(left, right), torch.cat([left, right], 1))


@needs_kernels
@settings(max_examples=60)
@given(
    rows=st.integers(1, 3), pairs=st.integers(1, 4), groups=st.integers(1, 3), width=st.integers(1, 150),
    span=st.integers(1, 100), own=st.booleans(), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 99),
)  # fmt: skip
def test_attention_is_softmax_of_scores_times_values(
    rows: int, pairs: int, groups: int, width: int, span: int, own: bool, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    query = torch.randn(rows, pairs * groups + 2, width).to(dtype)[:, : pairs * groups]  # keys lie behind them
    memory = torch.randn(2, rows * pairs, span + 3, width).to(dtype)[:, :, :span]
    bias = torch.randn(rows * pairs, groups if own else 1, span).to(dtype)
    bias[:, :, span // 2 + 1 :] = -torch.inf  # somebody else's places

    found = calls.attend(query, memory[0].transpose(1, 2), memory[1], Seen(bias), 0.3)

    grouped = query.reshape(rows * pairs, groups, width).double()
    scores = torch.baddbmm(bias.double(), grouped, memory[0].double().transpose(1, 2), alpha=0.3)
    exact = torch.bmm(torch.softmax(scores, -1), memory[1].double()).view(rows, pairs * groups, width)
    close(found, exact, dtype, width)


@needs_kernels
@settings(max_examples=60)
@given(
    rows=st.integers(0, 4), count=SIZES, levels=st.integers(1, 300), dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_the_likeliest_is_the_first_of_the_highest(
    rows: int, count: int, levels: int, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    scores = (torch.randint(levels, (rows, count)) - levels // 2).to(dtype)
    scores[:, ::7] = -torch.inf

    found = calls.likeliest(scores)

    assert found.tolist() == [row.index(max(row)) for row in scores.tolist()]


@needs_kernels
def test_what_is_put_lies_where_pytorch_puts_it() -> None:
    torch.manual_seed(0)
    for dtype in DTYPES:
        rows = torch.randn(4, 10, 7).to(dtype)
        pairs, positions = rows.narrow(1, 4, 6), torch.tensor([5, 0, 6, 1])  # of two slots, twice
        ours, theirs = torch.zeros(2, 2, 3, 3, 9, 7, dtype=dtype).unbind(0)  # (2, slots, P, T, D)

        calls.put(pairs, positions, ours, first=1, each=2)

        for row, (slot, position) in enumerate(zip([1, 2, 1, 2], positions.tolist(), strict=True)):
            theirs[:, slot, :, position] = pairs[row].view(2, 3, 7)
        assert torch.equal(ours, theirs)


def test_without_a_compiler_or_the_processor_there_are_no_kernels_and_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_brought", lambda: Path("/nowhere"))
    monkeypatch.setattr(shutil, "which", lambda name: None)

    assert library.library.__wrapped__() is None
    assert library.why() is not None
    monkeypatch.setattr(calls, "library", lambda: None)
    assert way_of(int8_of(torch.randn(8, 8))) is Rounded


@needs_kernels
@pytest.mark.parametrize("kind", ["t5", "llama", "mixtral", "gptj", "opt"])
@pytest.mark.parametrize("invariant", [False, True])
def test_an_engine_without_kernels_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, invariant: bool
) -> None:
    if kind == "t5":
        folder = write_t5(tmp_path)
    else:
        family, config = KINDS[kind]
        folder = write_decoder(tmp_path, family, **config)
    prompts = [[5, 9, 7], [11], [3, 8, 2, 9, 30, 12, 6]]

    ours = answers_of(core_of(model_on(folder), invariant=invariant), prompts, [12, 20, 7])
    monkeypatch.setattr(calls, "library", lambda: None)
    theirs = answers_of(core_of(model_on(folder), invariant=invariant), prompts, [12, 20, 7])

    assert ours == theirs


def test_an_older_processor_has_no_kernels_and_the_reason_names_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_features", lambda: library.NEEDED - {"avx512_vnni"})

    monkeypatch.setattr(library, "library", library.library.__wrapped__)

    assert library.library() is None
    assert library.said() == "PyTorch's, which are slower: this processor has no avx512_vnni"


@needs_kernels
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine: the kernels were brought")
def test_a_compiler_that_knows_no_tiles_makes_kernels_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = tmp_path / "gcc"
    older.write_text(f'#!/bin/sh\ncase "$*" in *-mamx*) exit 1 ;; esac\nexec {shutil.which("gcc")} "$@"\n')
    older.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    library.compile_into(tmp_path / "kernels.so")

    made = ctypes.CDLL(str(tmp_path / "kernels.so"))
    assert hasattr(made, "product") and not hasattr(made, "tiled")
    monkeypatch.setattr(library, "library", lambda: made)
    assert library.said() == "our own"


@needs_kernels
def test_a_library_that_cannot_be_loaded_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.so").write_bytes(b"no ELF")
    monkeypatch.setattr(library, "_brought", lambda: tmp_path / "broken.so")
    monkeypatch.setattr(library, "library", library.library.__wrapped__)

    assert library.library() is None
    assert library.said() == "PyTorch's, which are slower: our own could not be compiled and loaded"


@needs_kernels
@pytest.mark.slow
def test_the_library_is_made_once_and_never_taken_from_where_others_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "_brought", lambda: Path("/nowhere"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    made = library._made()

    assert made is not None
    assert made.is_file()
    stamp = made.stat().st_mtime_ns
    assert library._made() == made
    assert made.stat().st_mtime_ns == stamp
    os.chmod(made.parent, 0o777)
    assert library._made() is None
