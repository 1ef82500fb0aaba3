"""What a rank of the native engine holds: its arrays, counted, and what the allocator keeps besides, measured.

Not other engines' memory. benchmarks/native_memory.py measured peaks of tiny-t5, of T5's small and base sizes and of a
small Llama, in fp32 and bf16, over 1, 2 and 4 ranks; the formula is within -8 and +9 % of them
(tests/test_memory_native.py).
"""

from __future__ import annotations

from heavylift.plan.memory.need import MIB, Need
from heavylift.plan.model import ModelFacts

LOADING, LOADING_SHARE = 12 * MIB, 0.12  # of the weights: copies made while packing, of which the heap keeps parts
FIRST_ROOM = 16  # positions of a new cache; it doubles when full, and both are held then
STEP, COPIED = (
    16,
    1.25,
)  # of a decoder's cache: positions are whole steps; rows that go on are copied when half are done
PORTION = 4096  # tokens of prompts that a decoder reads at once
CROSS_COPIES = 1.25  # of the source's keys and values: a layer's are rearranged while the others wait
KEPT_BELOW, KEPT_SHARE = 32 * MIB, 0.6  # glibc returns larger blocks at once (mallopt(3), M_MMAP_THRESHOLD)
BATCH = 12 * MIB


def native_need(
    model: ModelFacts, per_rank: int, degree: int, element: int, rows: int, source: int, tokens: int
) -> Need:
    """`rows` prompts of `source` tokens in a batch, `tokens` generated for each; `element` in bytes."""
    kv = (-(-model.kv_heads // degree)) * (model.head_dim + model.value_dim) * model.layers
    each = kv * rows * element
    read = source * rows if model.encoder_decoder else min(source * rows, max(source, PORTION))
    blocks = _blocks(model, degree, element, rows if model.encoder_decoder else 1, source, read)
    reading, kept = sum(blocks), int(KEPT_SHARE * sum(block for block in blocks if block < KEPT_BELOW))
    logits = -(-model.vocabulary // degree) * rows * 4
    if model.encoder_decoder:
        room, cross = _doubled(tokens), int(CROSS_COPIES * each * source)
        cache = cross + 2 * each * room
        formula = f"2 · {kv} numbers · {room} positions (it doubles) · {rows} rows · {element} bytes"
        formula += f" + {CROSS_COPIES} · {kv} · {source} source tokens · {rows} · {element}"
        over = max(reading - cache, logits + kept)  # reading is over when the caches are complete
    else:
        room = _grown(source, source + tokens)
        cache = int(COPIED * each * room)
        formula = f"{COPIED} · {kv} numbers · {room} positions · {rows} rows · {element} bytes"
        over = max(reading - cache + each * room, logits + kept)
    return Need(
        weights=per_rank,
        weights_formula=f"table of weights at degree {degree}, {element} bytes each",
        loading=LOADING + int(LOADING_SHARE * per_rank),
        loading_formula=f"{LOADING // MIB} MiB + {LOADING_SHARE} of the weights, measured",
        cache=cache,
        cache_formula=formula,
        activations=over + BATCH,
        activations_formula=(
            f"{read} tokens read at once: scores, feed-forward, residual and heads {reading} beside the cache, or "
            f"logits {logits} + kept {kept}; + {BATCH // MIB} MiB, measured"
        ),
    )


def _blocks(model: ModelFacts, degree: int, element: int, rows: int, source: int, read: int) -> tuple[int, ...]:
    """Bytes of the arrays that reading `read` tokens takes in one layer."""
    heads, ffn = -(-model.heads // degree), -(-model.ffn // degree)
    scores, flat = rows * heads * source * source * element, read * element
    residual, qkv = model.hidden * flat, 3 * heads * model.head_dim * flat
    return (scores, (1 + model.gated) * ffn * flat, ffn * flat, residual, residual, residual, qkv, qkv)


def _doubled(tokens: int) -> int:
    """Positions of an encoder-decoder's cache of generated tokens."""
    room = FIRST_ROOM
    while room < tokens:
        room *= 2
    return room


def _grown(source: int, tokens: int) -> int:
    """Positions of a decoder's cache: those of the prompt, half as many more, and again when they are full."""
    room = source
    while room < tokens:
        room = -(-room // STEP) * STEP + max(STEP, room // 2) // STEP * STEP
    return room
