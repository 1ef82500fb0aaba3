"""What a rank of the native engine holds: its arrays, counted, and what the allocator keeps besides, measured.

Not other engines' memory. benchmarks/native_memory.py measured peaks of tiny-t5 and of T5's small and base sizes, in
fp32 and bf16, over 1, 2 and 4 ranks; the formula is within -6 and +9 % of them (tests/test_memory_native.py).
"""

from __future__ import annotations

from heavylift.plan.memory.need import MIB, Need
from heavylift.plan.model import ModelFacts

LOADING, LOADING_SHARE = 12 * MIB, 0.12  # of the weights: copies made while packing, of which the heap keeps parts
FIRST_ROOM = 16  # positions of a new cache; it doubles when full, and both are held then
CROSS_COPIES = 1.25  # of the source's keys and values: a layer's are rearranged while the others wait
KEPT_BELOW, KEPT_SHARE = 32 * MIB, 0.6  # glibc returns larger blocks at once (mallopt(3), M_MMAP_THRESHOLD)
BATCH = 12 * MIB


def native_need(
    model: ModelFacts, per_rank: int, degree: int, element: int, rows: int, source: int, tokens: int
) -> Need:
    """`rows` prompts of `source` tokens in a batch, `tokens` generated for each; `element` in bytes."""
    heads = -(-model.heads // degree)
    width, ffn = heads * model.head_dim, -(-model.ffn // degree)
    room = FIRST_ROOM
    while room < (tokens if model.encoder_decoder else source + tokens):
        room *= 2
    kv = (-(-model.kv_heads // degree)) * (model.head_dim + model.value_dim)
    cross = int(CROSS_COPIES * model.layers * kv * source * rows * element) if model.encoder_decoder else 0
    own = 2 * model.layers * kv * room * rows * element
    flat = rows * source * element
    scores, inner, residual = heads * source * flat, (1 + model.gated) * ffn * flat, model.hidden * flat
    blocks = (scores, inner, ffn * flat, residual, residual, residual, 3 * width * flat, 3 * width * flat)
    reading = sum(blocks)
    kept = int(KEPT_SHARE * sum(block for block in blocks if block < KEPT_BELOW))
    logits = -(-model.vocabulary // degree) * rows * 4
    how = "measured" if model.encoder_decoder else "measured with T5"
    over = max(reading - cross - own, logits + kept)  # reading the prompts is over when the caches are complete
    cache = f"2 · {model.layers} layers · {kv} numbers · {room} positions (it doubles) · {rows} rows · {element} bytes"
    if cross:
        cache += f" + {CROSS_COPIES} · {model.layers} · {kv} · {source} source tokens · {rows} · {element}"
    return Need(
        weights=per_rank,
        weights_formula=f"table of weights at degree {degree}, {element} bytes each",
        loading=LOADING + int(LOADING_SHARE * per_rank),
        loading_formula=f"{LOADING // MIB} MiB + {LOADING_SHARE} of the weights, {how}",
        cache=cross + own,
        cache_formula=cache,
        activations=over + BATCH,
        activations_formula=(
            f"{rows} rows of {source} tokens: scores, feed-forward, residual and heads {reading} less the cache, or "
            f"logits {logits} + kept {kept}; + {BATCH // MIB} MiB, {how}"
        ),
    )
