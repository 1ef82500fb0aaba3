"""The likeliest token by a copy of the head in 8 bits: bit for bit that of the whole product."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heavylift_runtime.native import screened
from heavylift_runtime.native.distributed import Alone
from heavylift_runtime.native.kernels import calls, library
from heavylift_runtime.native.screened import PATIENCE, Screened, worth
from heavylift_runtime.native.vocabulary import Vocabulary
from tests.native_cores import answers_of, core_of, model_on
from tests.t5_checkpoints import write_t5

pytestmark = pytest.mark.skipif(
    library.why() is not None, reason=f"no kernels on this machine, and no screen without: {library.why()}"
)
DTYPES = (torch.float32, torch.bfloat16)


def whole(head: Tensor, hidden: Tensor) -> tuple[list[int], Tensor]:
    """Where each row's highest score is, and the scores (N, n), by the whole product."""
    scores = calls.Product(head)(hidden)
    return calls.likeliest(scores).tolist(), scores.float()


def agree(head: Tensor, hidden: Tensor) -> int:
    """Holds a screen against the whole product; returns how many outputs were computed."""
    found, exact = calls.Product(head), Screened(head)
    rough = exact._rough(hidden.float())
    scores, places, looked = calls.screen(found, rough, exact._lengths, exact._errors, hidden)
    expected, every = whole(head, hidden)
    assert places.tolist() == expected
    highest = every.gather(1, places.unsqueeze(1)).squeeze(1)
    assert torch.equal(scores[highest == highest], highest[highest == highest])
    return looked


@settings(max_examples=150)
@given(
    rows=st.integers(1, 5), outputs=st.integers(1, 400), inputs=st.integers(1, 200), dtype=st.sampled_from(DTYPES),
    size=st.sampled_from([1e-36, 1e-20, 1e-3, 1.0, 300.0, 1e15]), twins=st.booleans(), outliers=st.booleans(),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_the_token_is_that_of_the_whole_product(
    rows: int, outputs: int, inputs: int, dtype: torch.dtype, size: float, twins: bool, outliers: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    head, hidden = torch.randn(outputs, inputs), torch.randn(rows, inputs) * size
    if outliers:
        head[:, :: max(1, inputs // 3)] *= 50
        hidden[:, 0] *= 1000
    if twins:  # the first of equals wins, also where rounding alone makes them equal
        head[outputs // 2 :] = head[: outputs - outputs // 2] * (1 + 1e-7 * torch.randn(outputs - outputs // 2, 1))

    agree(head.to(dtype), hidden.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strange", [torch.nan, torch.inf, -torch.inf])
def test_strange_numbers_are_never_ruled_out(dtype: torch.dtype, strange: float) -> None:
    torch.manual_seed(3)
    head, hidden = torch.randn(300, 70).to(dtype), torch.randn(4, 70).to(dtype)

    one = head.clone()
    one[17, 3] = strange
    agree(one, hidden)
    agree(torch.full_like(head, strange), hidden)
    some = hidden.clone()
    some[1, 5] = strange
    some[2] = strange
    agree(head, some)
    agree(head * torch.finfo(dtype).max, hidden)
    agree(torch.zeros_like(head), hidden)
    agree(head, torch.zeros_like(hidden))


@pytest.mark.parametrize("dtype", DTYPES)
def test_few_tokens_are_computed_where_scores_are_spread(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head, hidden = torch.randn(4000, 768).to(dtype), torch.randn(3, 768).to(dtype)

    assert agree(head, hidden) < 3 * 100


def test_a_screen_that_rules_nothing_out_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screened, "SMALLEST", 1)
    torch.manual_seed(0)
    head = torch.randn(1, 64).repeat(100, 1)
    vocabulary, hidden = Vocabulary(Alone(), 100, head, None, held=1 << 30), torch.randn(2, 64)

    for _ in range(PATIENCE):
        assert vocabulary._screened is not None
        assert vocabulary.greedy(hidden).tolist() == [0, 0]

    assert vocabulary._screened is None
    assert vocabulary.greedy(hidden).tolist() == [0, 0]


def test_a_copy_is_made_only_of_a_large_head_that_is_little_of_the_weights() -> None:
    head = torch.empty(4096, 1024)

    assert worth(head, 10 * head.numel())
    assert not worth(head, 10 * head.numel() - 10)
    assert not worth(head[:4095], 1 << 40)
    assert not worth(head.half(), 1 << 40)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_engine_says_the_same_with_a_screen_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    folder, prompts = write_t5(tmp_path), [[5, 9, 7], [11], [3, 8, 2, 9, 30, 12, 6]]
    plain = answers_of(core_of(model_on(folder, dtype=dtype)), prompts, [12, 20, 7])
    monkeypatch.setattr(screened, "SMALLEST", 1)
    monkeypatch.setattr(screened, "SHARE", 1)
    model = model_on(folder, dtype=dtype)
    assert model.vocabulary._screened is not None

    with_screen = answers_of(core_of(model), prompts, [12, 20, 7])

    assert with_screen == plain
