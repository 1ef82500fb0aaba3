"""What a rank of the native engine holds: its arrays, counted, and what the allocator keeps besides, measured.

Not other engines' memory. benchmarks/native_memory.py measured peaks of tiny-t5, of T5's small and base sizes and of a
small Llama, in fp32 and bf16, over 1, 2 and 4 ranks (tests/test_memory_native.py says how near the formula is).
"""

from __future__ import annotations

from heavylift.plan.memory.need import MIB, Need
from heavylift.plan.model import ModelFacts

LOADING, LOADING_SHARE = 12 * MIB, 0.12  # of the weights: copies made while packing, of which the heap keeps parts
PAGE = 4096  # bytes: a row's keys, and values, of a head take whole pages, and only those that were written to
PASS_TOKENS = 256  # of prompts in a pass, about; a source is read whole by an encoder, however long
KEPT_BELOW, KEPT_SHARE = 32 * MIB, 0.6  # glibc returns larger blocks at once (mallopt(3), M_MMAP_THRESHOLD)
BATCH = 12 * MIB
FORMS, HELD = 64, 3  # passes that are kept, and what each holds of its rows before and after every layer's experts
KERNEL, KERNELS = 5 * MIB, 16  # oneDNN keeps a program for each number of rows that it has met in bf16, up to so many


def native_need(
    model: ModelFacts, per_rank: int, degree: int, element: int, rows: int, source: int, tokens: int
) -> Need:
    """`rows` prompts of `source` tokens that run at once, `tokens` generated for each; `element` in bytes."""
    pairs = -(-model.kv_heads // degree) * model.layers
    text = 1 + tokens if model.encoder_decoder else source + tokens
    lengths = (text, source) if model.encoder_decoder else (text,)
    each = sum(_pages(length * width * element) for length in lengths for width in (model.head_dim, model.value_dim))
    cache = rows * pairs * each
    formula = f"{rows} rows · {pairs} heads of all layers · keys, values of {' and '.join(map(str, lengths))} tokens "
    formula += f"of {model.head_dim} · {element} bytes, in whole pages: {each}"
    read = min(source * rows, _read(source) if model.encoder_decoder else PASS_TOKENS)
    blocks = _blocks(model, degree, element, source, read)
    reading, kept = sum(blocks), int(KEPT_SHARE * sum(block for block in blocks if block < KEPT_BELOW))
    logits = -(-model.vocabulary // degree) * rows * 4
    packing = 0 if model.encoder_decoder else -(-model.vocabulary // degree) * model.hidden * element
    passes = FORMS * HELD * model.layers * rows * model.hidden * element if model.moe else 0
    programs = KERNEL * min(rows, KERNELS) if element == 2 else 0
    always = passes + programs + BATCH
    of_experts = f", + {passes} for rows that {FORMS} kept passes hold around experts" if passes else ""
    return Need(
        weights=per_rank,
        weights_formula=f"table of weights at degree {degree}, {element} bytes each",
        loading=LOADING + int(LOADING_SHARE * per_rank),
        loading_formula=f"{LOADING // MIB} MiB + {LOADING_SHARE} of the weights, measured",
        cache=cache,
        cache_formula=formula,
        activations=max(reading + always, logits + kept + always, packing - cache),
        activations_formula=(
            f"{read} tokens in a pass: scores, feed-forward, residual and heads {reading}, or "
            f"logits {logits} + kept {kept}; + {(BATCH + programs) // MIB} MiB, measured{of_experts}; or, "
            f"before there is a cache, {packing} for the head's copy while it is packed"
        ),
    )


def _read(source: int) -> int:
    """Tokens of sources of this size in one pass: one after the other is taken until it is full."""
    return source if source >= PASS_TOKENS else PASS_TOKENS + source


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _blocks(model: ModelFacts, degree: int, element: int, source: int, read: int) -> tuple[int, ...]:
    """Bytes of the arrays that a pass over `read` tokens takes in one layer, a text's attention at a time."""
    heads, ffn = -(-model.heads // degree), -(-model.ffn // degree)
    seen, flat = min(source, read), read * element
    scores = heads * seen * source * element
    residual, qkv = model.hidden * flat, 3 * heads * model.head_dim * flat
    return (scores, scores, (1 + model.gated) * ffn * flat, ffn * flat, residual, residual, residual, qkv, qkv)
