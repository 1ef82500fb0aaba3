"""CTranslate2, of a checkpoint that its own converter has read."""

from __future__ import annotations

import tempfile
from typing import Any

import ctranslate2
from ctranslate2.converters import TransformersConverter
from protocol import Generate, main


def side(settings: dict[str, Any]) -> tuple[Generate, str]:
    kind = {"fp32": "float32", "int8": "int8"}[settings["dtype"]]
    with tempfile.TemporaryDirectory() as folder:
        TransformersConverter(settings["folder"]).convert(folder, quantization=kind, force=True)
        translator = ctranslate2.Translator(folder, device="cpu", compute_type=kind, intra_threads=settings["threads"])

    def generate(prompts: list[list[int]], tokens: int) -> int:
        texts = [[f"t{token}" for token in prompt] for prompt in prompts]
        answers = translator.translate_batch(
            texts, beam_size=1, min_decoding_length=tokens, max_decoding_length=tokens, max_batch_size=len(texts)
        )
        return sum(len(answer.hypotheses[0]) for answer in answers)

    return generate, f"ctranslate2 {ctranslate2.__version__}, {kind}"


main(side)
