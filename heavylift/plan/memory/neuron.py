"""What one copy asks of a NeuronCore: weights, the whole of its cache, and a layer's activations. Not its host.

Shapes are compiled, so the cache of every row is there from the start, at its full length.
"""

from __future__ import annotations

from math import ceil

from heavylift.plan.memory.need import Need
from heavylift.plan.model import BYTES, ModelFacts
from heavylift.plan.validity.neuron import neuron_cache_factor


def neuron_need(
    model: ModelFacts, *, dtype: str, quantization: str, tp: int, rows: int, tokens: int, prompt: int
) -> Need:
    """Of the fullest core. `rows`: the compiled batch; `tokens` of a prompt and its answer, `prompt` of the former."""
    factor = neuron_cache_factor(model, tp)
    each = ceil(model.cache_bytes(tokens, tp=tp, kv_dtype=dtype) * factor)
    copies = "" if factor == 1.0 else f" · {factor:.3g} for the degree does not divide the key heads"
    return Need(
        weights=model.rank_bytes(dtype, quantization, tp=tp),
        weights_formula=f"{model.parameters} numbers of {dtype} over {tp} cores, {quantization} quantization",
        cache=rows * each,
        cache_formula=f"{rows} rows · {tokens} tokens{copies}",
        activations=int(4 * prompt * max(model.ffn / tp, model.hidden) * BYTES[dtype]),
        activations_formula=f"4 · {prompt} tokens of one layer, assumed",
    )
