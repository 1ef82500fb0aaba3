"""Trains tiny-t5, the model of the examples and tests: `python training/train_tiny_t5.py` (10-15 minutes, 2 cores).

Not part of the product, and no test runs it: its result, models/tiny-t5/, is committed.
A T5 v1.1 (Raffel et al. 2020; gated-gelu of Shazeer 2020) of 1.7 M parameters with its own BPE vocabulary,
seeded, in fp32 on the CPU. Prints exact-match accuracy on inputs it never saw, and one JSON object as its last line.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from fitting import arguments, fit, result
from safetensors.torch import load_file, save_file
from tasks import TASKS, examples
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration
from vocabulary import train_vocabulary


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """As T5's: </s> ends every text."""
    bpe = train_vocabulary(seed, ["<pad>", "</s>", "<unk>"], "$A </s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=128
    )


def batches(
    tokenizer: PreTrainedTokenizerFast, *, size: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Endless mixed batches: ids and mask (B, S), labels (B, T) with -100 for padding."""
    streams = {task: examples(task, seed=seed, unseen=False) for task in TASKS}
    rng = Random(seed)
    while True:
        pairs = [next(streams[rng.choice(list(TASKS))]) for _ in range(size)]
        texts, answers = zip(*pairs, strict=True)
        source = tokenizer(list(texts), padding=True, return_tensors="pt")
        labels = tokenizer(list(answers), padding=True, return_tensors="pt").input_ids
        yield source.input_ids, source.attention_mask, labels.masked_fill(labels == 0, -100)


@torch.inference_mode()
def accuracy(model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, count: int) -> dict[str, float]:
    """Exact match per task over `count` held-out inputs, greedy."""
    model.eval()
    result = {}
    for task in TASKS:
        pairs = list(itertools.islice(examples(task, seed=1, unseen=True), count))
        source = tokenizer([text for text, _ in pairs], padding=True, return_tensors="pt")
        output = model.generate(
            input_ids=source.input_ids, attention_mask=source.attention_mask, max_new_tokens=48, do_sample=False
        )
        answers = tokenizer.batch_decode(output, skip_special_tokens=True)
        result[task] = sum(a == pair[1] for a, pair in zip(answers, pairs, strict=True)) / count
    model.train()
    return result


def save(model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes FLAN-T5's layout: a head of its own and `tie_word_embeddings: false`, so unscaled decoder outputs.

    transformers 5 ties T5's head in memory whatever the config says, and would save what older readers scale wrongly.
    """
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    weights = load_file(out / "model.safetensors")
    weights["lm_head.weight"] = weights["shared.weight"].clone()
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    config = json.loads((out / "config.json").read_text())
    config.pop("scale_decoder_outputs")
    config["tie_word_embeddings"] = False
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main() -> None:
    given = arguments(__doc__, "tiny-t5", 2400)
    started = time.monotonic()
    torch.manual_seed(given.seed)
    torch.set_num_threads(2)
    tokenizer = train_tokenizer(given.seed)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer), d_model=128, d_kv=32, d_ff=256, num_heads=4, num_layers=4,
            num_decoder_layers=4, feed_forward_proj="gated-gelu", tie_word_embeddings=False, dropout_rate=0.0,
            relative_attention_num_buckets=32, relative_attention_max_distance=64, pad_token_id=0, eos_token_id=1,
            decoder_start_token_id=0,
        )
    )  # fmt: skip
    losses = (
        model(input_ids=ids, attention_mask=mask, labels=labels).loss
        for ids, mask, labels in batches(tokenizer, size=given.batch, seed=given.seed)
    )
    fit(model, losses, lambda: accuracy(model, tokenizer, 100), steps=given.steps, rate=2e-3, warmup=300)
    final = accuracy(model, tokenizer, 500)
    save(model, tokenizer, given.out)
    print(result(model, given, started, final))


if __name__ == "__main__":
    main()
