"""Trains tiny-llama, the decoder-only model of the tests: `python training/train_tiny_llama.py` (10-15 minutes).

Not part of the product, and no test runs it: its result, models/tiny-llama/, is committed.
A Llama (Touvron et al. 2023; grouped-query attention of Ainslie et al. 2023) of 0.9 M parameters on tiny-t5's four
tasks, seeded, in fp32 on the CPU. An answer continues its input, and only the answer's tokens are learned. Its sizes
leave groups of 32 inputs whole at degrees 1, 2 and 4, so that 4-bit weights can be tried on it. Prints exact-match
accuracy on inputs it never saw, and one JSON object as its last line.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from random import Random

import torch
import torch.nn.functional as F
from fitting import arguments, fit, result
from tasks import TASKS, examples
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from vocabulary import train_vocabulary

PAD, END, START = 0, 1, 3
SORTED = 8
"""Batches that are drawn together and sorted by length, so that little of them is padding."""


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """A text begins with <s>, as Llama's do; </s> ends an answer and is never in a prompt."""
    return PreTrainedTokenizerFast(
        tokenizer_object=train_vocabulary(seed, ["<pad>", "</s>", "<unk>", "<s>"], "<s> $A"),
        pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>", model_max_length=256,
    )  # fmt: skip


def batches(tokenizer: PreTrainedTokenizerFast, *, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless mixed batches: ids (B, S) padded at the right, and which of them are an answer's (B, S)."""
    streams = {task: examples(task, seed=seed, unseen=False) for task in TASKS}
    rng = Random(seed)
    while True:
        pairs = [next(streams[rng.choice(list(TASKS))]) for _ in range(size * SORTED)]
        prompts = tokenizer([text for text, _ in pairs]).input_ids
        answers = tokenizer([answer for _, answer in pairs], add_special_tokens=False).input_ids
        rows = sorted(zip(prompts, answers, strict=True), key=lambda row: len(row[0]) + len(row[1]))
        groups = [rows[first : first + size] for first in range(0, len(rows), size)]
        rng.shuffle(groups)
        for group in groups:
            texts = [torch.tensor([*prompt, *answer, END]) for prompt, answer in group]
            learned = [torch.arange(len(text)) >= len(prompt) for text, (prompt, _) in zip(texts, group, strict=True)]
            pad = torch.nn.utils.rnn.pad_sequence
            yield pad(texts, batch_first=True, padding_value=PAD), pad(learned, batch_first=True)


def loss_of(model: LlamaForCausalLM, ids: Tensor, learned: Tensor) -> Tensor:
    """Cross-entropy of the answers' tokens; padding is at the end, where no real token looks."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][learned[:, 1:]]
    return F.cross_entropy(model.lm_head(hidden), ids[:, 1:][learned[:, 1:]])


@torch.inference_mode()
def accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int) -> dict[str, float]:
    """Exact match per task over `count` held-out inputs, greedy."""
    model.eval()
    result = {}
    for task in TASKS:
        pairs = list(itertools.islice(examples(task, seed=1, unseen=True), count))
        source = tokenizer([text for text, _ in pairs], padding=True, padding_side="left", return_tensors="pt")
        output = model.generate(
            input_ids=source.input_ids, attention_mask=source.attention_mask, max_new_tokens=48, do_sample=False
        )
        answers = tokenizer.batch_decode(output[:, source.input_ids.shape[1] :], skip_special_tokens=True)
        result[task] = sum(a == pair[1] for a, pair in zip(answers, pairs, strict=True)) / count
    model.train()
    return result


def main() -> None:
    given = arguments(__doc__, "tiny-llama", 2400)
    started = time.monotonic()
    torch.manual_seed(given.seed)
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(given.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5,
            tie_word_embeddings=False, pad_token_id=PAD, eos_token_id=END, bos_token_id=START,
        )
    )  # fmt: skip
    losses = (loss_of(model, *batch) for batch in batches(tokenizer, size=given.batch, seed=given.seed))
    fit(model, losses, lambda: accuracy(model, tokenizer, 50), steps=given.steps, rate=3e-3, warmup=200)
    final = accuracy(model, tokenizer, 500)
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)
    (given.out / "model.safetensors").chmod(0o644)
    print(result(model, given, started, final))


if __name__ == "__main__":
    main()
