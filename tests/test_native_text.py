"""What decoder-only models add to the layers: rotation, fading attention, windows, the cache of prompt and answer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb, create_sinusoidal_positions

from heavylift_runtime.families.rotary import Llama3, Rotary
from heavylift_runtime.native import layers
from heavylift_runtime.native.architectures.attention import Continuing, Heads, Reading
from heavylift_runtime.native.architectures.decoder import portions
from heavylift_runtime.native.cache import STEP, TextCache
from heavylift_runtime.native.layers import LayerNorm, attend_causally, slopes_of
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.rotary import Rotation, frequencies

STRETCHED = Llama3(factor=8.0, low=1.0, high=4.0, original=8192)


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 12, 16, 25, 112])
def test_the_slopes_are_those_of_transformers_bloom(heads: int) -> None:
    theirs = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]

    torch.testing.assert_close(slopes_of(heads), theirs, atol=0, rtol=1e-5)


def test_llama_31s_stretched_waves_are_those_of_transformers() -> None:
    scaling = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    config = LlamaConfig(hidden_size=128, num_attention_heads=1, rope_parameters=scaling)
    theirs, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))

    ours = frequencies(Rotary(128, 500000.0, llama3=STRETCHED))

    torch.testing.assert_close(ours, theirs, atol=0, rtol=1e-5)
    assert not torch.allclose(ours, frequencies(Rotary(128, 500000.0)), rtol=0.5)


def test_gptjs_neighbouring_pairs_turn_as_in_transformers_and_the_rest_of_the_head_does_not() -> None:
    torch.manual_seed(0)
    heads, positions = torch.randn(5, 3, 16), torch.tensor([0, 7, 3, 1000, 2])
    sines, cosines = create_sinusoidal_positions(2048, 8)[positions].chunk(2, 1)
    expected = apply_rotary_pos_emb(heads[None, :, :, :8], sines[None], cosines[None])[0]
    rotation, turned = Rotation(Rotary(8, 10000.0, interleaved=True), torch.float32), heads.clone()

    rotation.turn_(turned, rotation.at(positions))

    torch.testing.assert_close(turned[:, :, :8], expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(turned[:, :, 8:], heads[:, :, 8:])


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("packed", [True, False])
def test_a_product_adds_its_bias_once(packed: bool, dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(0)
    weight, bias, x, base = (torch.randn(*size).to(dtype) for size in ((24, 16), (24,), (rows, 16), (rows, 24)))

    with torch.inference_mode():
        linear = Linear(weight, bias, packed=packed)
        product, total = linear(x), linear.onto(base, x)

    exact = F.linear(x.double(), weight.double(), bias.double())
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.02}
    torch.testing.assert_close(product.double(), exact, **tolerance)
    torch.testing.assert_close(total.double(), exact + base, **tolerance)


def test_a_layer_norm_has_its_bias() -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(8), torch.randn(8), torch.randn(3, 8)

    centred = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(LayerNorm(weight, bias, 1e-5)(x), centred * weight + bias)


def exact(query: Tensor, key: Tensor, value: Tensor, scale: float, slopes: Tensor | None, window: int | None) -> Tensor:
    """Attention spelt out, one head and one query at a time: q (H, T, D), k and v (P, T, D) → (T, H * D)."""
    heads, count, width = query.shape
    result = torch.zeros(count, heads, width)
    for head in range(heads):
        pair = head * len(key) // heads
        for at in range(count):
            first = 0 if window is None else max(0, at - window + 1)
            scores = key[pair, first : at + 1] @ query[head, at] * scale
            if slopes is not None:
                scores = scores - slopes[head] * (at - torch.arange(first, at + 1))
            result[at, head] = torch.softmax(scores, 0) @ value[pair, first : at + 1]
    return result.flatten(1)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 30),
    pairs=st.integers(1, 3),
    group=st.integers(1, 3),
    fading=st.booleans(),
    window=st.none() | st.integers(1, 12),
)
def test_a_text_attends_to_what_it_may_see(
    count: int, pairs: int, group: int, fading: bool, window: int | None
) -> None:
    torch.manual_seed(count)
    query, key, value = torch.randn(pairs * group, count, 4), torch.randn(pairs, count, 4), torch.randn(pairs, count, 4)
    slopes = slopes_of(pairs * group) if fading else None
    expected = exact(query, key, value, 0.5, slopes, window)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "QUERIES", 8)  # several portions
        ours = attend_causally(query, key, value, 0.5, slopes, window)

    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    more=st.integers(1, 3 * STEP),
    pairs=st.integers(1, 2),
    group=st.integers(1, 3),
    fading=st.booleans(),
    window=st.none() | st.integers(1, 40),
    data=st.data(),
)
def test_what_is_read_and_then_continued_is_as_if_read_at_once(
    lengths: list[int], more: int, pairs: int, group: int, fading: bool, window: int | None, data: st.DataObject
) -> None:
    torch.manual_seed(more)
    slopes = slopes_of(pairs * group) if fading else None
    rotation = None if fading else Rotation(Rotary(4, 100.0), torch.float32)
    heads = Heads(pairs * group, pairs, 4, (None, window), rotation, slopes)
    texts = [torch.randn(2, length + more, (group + 2) * pairs * 4) for length in lengths]

    def cache_of(counts: list[int]) -> TextCache:
        return TextCache(heads.windows, pairs, 4, torch.float32, counts, slopes)

    def at_once(text: Tensor) -> list[Tensor]:
        reading = Reading(heads, cache_of([text.shape[1]]), 0, [text.shape[1]])
        return [reading.mix(layer, text[layer].clone()) for layer in (0, 1)]

    whole = [at_once(text) for text in texts]
    cache = cache_of(lengths)
    reading = Reading(heads, cache, 0, lengths)
    beginnings = [torch.cat([t[layer, :n] for t, n in zip(texts, lengths, strict=True)]) for layer in (0, 1)]
    prompts = [reading.mix(layer, beginnings[layer]) for layer in (0, 1)]
    for layer in (0, 1):
        expected = torch.cat([w[layer][:n] for w, n in zip(whole, lengths, strict=True)])
        torch.testing.assert_close(prompts[layer], expected, atol=1e-5, rtol=1e-5)
    rows = list(range(len(lengths)))
    for step in range(more):
        positions = torch.tensor([lengths[row] + step for row in rows])
        continuing = Continuing(heads, cache, positions)
        for layer in (0, 1):
            qkv = torch.stack([texts[row][layer, lengths[row] + step] for row in rows])
            expected = torch.stack([whole[row][layer][lengths[row] + step] for row in rows])
            torch.testing.assert_close(continuing.mix(layer, qkv), expected, atol=1e-5, rtol=1e-5)
        if len(rows) > 1 and data.draw(st.booleans()):
            left = sorted(data.draw(st.permutations(range(len(rows))))[:-1])
            cache.keep(torch.tensor(left))
            rows = [rows[place] for place in left]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 60))
def test_portions_hold_every_row_once_and_no_more_than_they_may(counts: list[int], most: int) -> None:
    parts = list(portions(counts, most))

    assert [row for first, stop in parts for row in range(first, stop)] == list(range(len(counts)))
    assert all(sum(counts[first:stop]) <= most or stop - first == 1 for first, stop in parts)
