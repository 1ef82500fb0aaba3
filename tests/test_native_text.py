"""What decoder-only models add to the layers: rotation, fading attention, windows, texts cut into passes."""

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
from heavylift_runtime.native.architectures.attention import Heads, Pass, runs
from heavylift_runtime.native.batch import Batch, Chunk
from heavylift_runtime.native.cache import Store
from heavylift_runtime.native.layers import LayerNorm, slopes_of
from heavylift_runtime.native.linear import Linear, Packed, Plain
from heavylift_runtime.native.rotary import Rotation, frequencies
from heavylift_runtime.native.sight import causal, fading

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

    rotation.turn_(turned, rotation.known(positions, 1000))

    torch.testing.assert_close(turned[:, :, :8], expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(turned[:, :, 8:], heads[:, :, 8:])


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", [Packed, Plain, None])
def test_a_product_adds_its_bias_once(way: type[Packed] | type[Plain] | None, dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(0)
    weight, bias, x, base = (torch.randn(*size).to(dtype) for size in ((24, 16), (24,), (rows, 16), (rows, 24)))

    with torch.inference_mode():
        linear = Linear(weight, bias, way=way)
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


@pytest.mark.slow
@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    pairs=st.integers(1, 2),
    group=st.integers(1, 3),
    fades=st.booleans(),
    window=st.none() | st.integers(1, 30),
    apart=st.booleans(),
    data=st.data(),
)
def test_every_token_sees_its_own_text_however_it_is_cut_into_passes(
    lengths: list[int], pairs: int, group: int, fades: bool, window: int | None, apart: bool, data: st.DataObject
) -> None:
    torch.manual_seed(sum(lengths))
    window = None if fades else window
    slopes = slopes_of(pairs * group) if fades else None
    rotation = None if fades else Rotation(Rotary(4, 100.0), torch.float32)
    whole, narrow = causal(torch.float32, None), causal(torch.float32, window)
    sights = (whole, narrow) if slopes is None else (fading(torch.float32, slopes),) * 2
    heads = Heads(pairs * group, pairs, 4, sights, rotation, 0.5)
    texts = [torch.randn(2, length, (group + 2) * pairs, 4) for length in lengths]
    store = Store(2, len(lengths), pairs, 40, 4, torch.float32, torch.device("cpu"))

    def expected(text: Tensor, layer: int) -> Tensor:
        turned = text[layer].clone()
        if rotation is not None:
            rotation.turn_(
                turned.narrow(1, 0, (group + 1) * pairs), rotation.known(torch.arange(len(turned)), len(turned))
            )
        query, key, value = torch.split(turned.transpose(0, 1), [pairs * group, pairs, pairs])
        return exact(query, key, value, 0.5, slopes, window if layer else None)

    wanted = [[expected(text, layer) for layer in (0, 1)] for text in texts]
    done = [0] * len(lengths)
    while any(count < length for count, length in zip(done, lengths, strict=True)):
        rows = data.draw(st.integers(0, next((s for s, n in enumerate(lengths) if done[s] == n), len(lengths))))
        parts = [(slot, 1) for slot in range(rows)]
        for slot in range(rows, len(lengths)):
            if done[slot] < lengths[slot] and (data.draw(st.booleans()) or not parts):
                parts.append((slot, data.draw(st.integers(1, lengths[slot] - done[slot]))))
        chunks = [Chunk(slot, done[slot], count) for slot, count in parts[rows:]]
        batch = Batch.of([(0, done[slot]) for slot in range(rows)], [(c, [0] * c.count) for c in chunks], apart=apart)
        text = Pass(heads, store, batch)
        for layer in (0, 1):
            qkv = torch.cat([texts[slot][layer, done[slot] : done[slot] + count] for slot, count in parts]).flatten(1)
            mixed = torch.cat([wanted[slot][layer][done[slot] : done[slot] + count] for slot, count in parts])
            torch.testing.assert_close(text.mix(layer, qkv), mixed, atol=1e-5, rtol=1e-5)
        for slot, count in parts:
            done[slot] += count


@given(st.lists(st.integers(1, 2000), max_size=12), st.booleans())
def test_rows_attend_together_where_at_most_half_of_it_is_padding(lengths: list[int], apart: bool) -> None:
    parts = list(runs(lengths, apart=apart))

    assert [row for first, last, _ in parts for row in range(first, last)] == list(range(len(lengths)))
    for first, last, longest in parts:
        assert longest == max(lengths[first:last])
        assert (last - first) * longest <= 2 * sum(lengths[first:last])
        assert not apart or last - first == 1
