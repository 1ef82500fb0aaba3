"""The layers against what they stand for: packed products, norm, position buckets, attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention, T5LayerNorm

from heavylift_runtime.native.kernels import calls
from heavylift_runtime.native.kernels.lookups import Seen
from heavylift_runtime.native.layers import PositionBias, RMSNorm, attend, position_buckets
from heavylift_runtime.native.linear import PACK_FROM, Linear, Packed, Plain, can_pack, way_of


@pytest.mark.parametrize("rows", [1, 4, 17])
@pytest.mark.parametrize("shape", [(512, 256), (257, 64), (8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", [Packed, Plain, None])
def test_a_product_is_that_of_f_linear(
    way: type[Packed] | type[Plain] | None, dtype: torch.dtype, shape: tuple[int, int], rows: int
) -> None:
    torch.manual_seed(0)
    weight, x, base = (torch.randn(*size).to(dtype) for size in (shape, (rows, shape[1]), (rows, shape[0])))

    with torch.inference_mode():
        linear = Linear(weight, way=way)
        product, total = linear(x), linear.onto(base, x)

    exact = F.linear(x.double(), weight.double())
    tolerance = {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.2, "rtol": 0.02}
    torch.testing.assert_close(product.double(), exact, **tolerance)
    torch.testing.assert_close(total.double(), exact + base, **tolerance)


def test_this_pytorch_has_the_packed_product_and_size_decides_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "library", lambda: None)
    side = 2 * int(PACK_FROM[torch.float32] ** 0.5)

    assert can_pack(torch.empty(1))
    assert way_of(torch.randn(side, side)) is Packed
    assert way_of(torch.randn(side, side), shared=True) is Plain
    assert way_of(torch.randn(128, 128)) is Plain
    assert way_of(torch.randn(128, 128, dtype=torch.bfloat16)) is Packed
    assert way_of(torch.randn(side, side, dtype=torch.float64)) is Plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_that_of_transformers(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(48).to(dtype), (torch.randn(5, 48) * 30).to(dtype)
    theirs = T5LayerNorm(48, eps=1e-5).to(dtype)
    theirs.weight.data.copy_(weight)

    with torch.inference_mode():
        ours, expected = RMSNorm(weight, 1e-5)(x), theirs(x)

    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (32, 64), (8, 20), (4, 3), (64, 1000)])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_every_distance_falls_into_transformers_bucket(bidirectional: bool, buckets: int, furthest: int) -> None:
    distance = torch.arange(-3000, 3000)

    ours = position_buckets(distance, bidirectional=bidirectional, buckets=buckets, furthest=furthest)

    theirs = T5Attention._relative_position_bucket(distance, bidirectional, buckets, furthest)
    assert torch.equal(ours, theirs)


def test_a_position_bias_is_transformers_at_every_length() -> None:
    torch.manual_seed(0)
    table = torch.randn(8, 3)
    theirs = T5Attention(
        T5Config(num_heads=3, relative_attention_num_buckets=8, relative_attention_max_distance=20), True
    )
    theirs.relative_attention_bias.weight.data.copy_(table)

    for decoder in (False, True):
        theirs.is_decoder = decoder
        ours = PositionBias(table, bidirectional=not decoder, furthest=20)
        for count in (1, 2, 63, 64, 65, 300, 7):
            expected = theirs.compute_bias(count, count)[0].detach()
            assert torch.equal(ours.square(count), expected)
            assert torch.equal(ours.between(count)[:, :count], expected[:, -1])


def test_attention_is_the_fused_kernels() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(6, 1, 8), torch.randn(6, 11, 8), torch.randn(6, 11, 8)
    bias = torch.randn(6, 1, 11)
    bias[:, :, 7:] = -torch.inf

    ours = torch.empty_like(query)
    attend(query, key.transpose(1, 2), value, Seen(bias), 1.0, ours)

    theirs = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
