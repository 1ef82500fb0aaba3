"""The vocabulary of the tiny models: BPE over the tasks' own texts.

Not a general tokenizer: digits and capitals stay single tokens, so that numbers and names split alike everywhere.
"""

from __future__ import annotations

import itertools

from tasks import TASKS, examples
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SIZE = 512


def train_vocabulary(seed: int, special: list[str], template: str) -> Tokenizer:
    """`special` tokens get the first ids; `template` says where they stand around each text, `$A`."""
    corpus = [
        text
        for task in TASKS
        for pair in itertools.islice(examples(task, seed=seed, unseen=False), 5000)
        for text in pair
    ]
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.normalizer = normalizers.NFKC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split(Regex("[0-9A-Z]"), "isolated")]
    )
    bpe.decoder = decoders.Metaspace()
    alphabet = [chr(code) for code in range(33, 127)]
    bpe.train_from_iterator(
        corpus,
        trainers.BpeTrainer(vocab_size=SIZE, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    named = [(token, bpe.token_to_id(token)) for token in special if token in template.split()]
    bpe.post_processor = processors.TemplateProcessing(
        single=template, pair=f"{template} {template.replace('$A', '$B')}", special_tokens=named
    )
    return bpe
