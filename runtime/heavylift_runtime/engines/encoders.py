"""Models that answer a text with numbers: embeddings, classes, entities, filled masks. Not text: accelerate.py.

Replies have the shapes of transformers' pipelines and of Text Embeddings Inference: one element for each text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from heavylift_runtime.engines.engine import text_fault
from heavylift_runtime.engines.pretrained import Pretrained
from heavylift_runtime.engines.tasks import GENERATING
from heavylift_runtime.errors import LoadError, PromptError

POOLINGS = ("mean", "cls", "last")
_MOST_TEXTS = 1024


class Encoder:
    """One model, and the way in which its answers are read."""

    def __init__(self, pretrained: Pretrained, pooling: str = "mean", normalize: bool = True) -> None:
        """`pooling`: which tokens' states make an embedding; `normalize`: to length 1. Raises LoadError."""
        if pretrained.task in GENERATING:
            raise LoadError(f"the model's task is {pretrained.task}, which is no encoder's: set option.task")
        if pooling not in POOLINGS:
            raise LoadError(f"option.pooling must be one of {', '.join(POOLINGS)}: got {pooling!r}")
        self._task, self._pooling, self._normalize = pretrained.task, pooling, normalize
        self._model, self._tokenizer = pretrained.model(), pretrained.tokenizer()
        self._tokenizer.padding_side = "right"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        if (config := self._model.config.get_text_config()).pad_token_id is None:
            config.pad_token_id = self._tokenizer.pad_token_id  # decoders that classify look for the token before it
        self._positions = pretrained.positions
        self._labels: Mapping[int, str] = pretrained.config.id2label or {}
        self._problem = getattr(pretrained.config, "problem_type", None)

    @torch.inference_mode()
    def answer(self, texts: Sequence[str], parameters: Mapping[str, Any]) -> list[Any]:
        """An answer for each text, in order; PromptError, with a sentence, where a text or a parameter cannot be."""
        best = parameters.get("top_k", 5 if self._task == "fill-mask" else 1)
        if unknown := [name for name in parameters if name != "top_k"]:
            raise PromptError(f"unknown parameter {unknown[0]!r} for {self._task}: use top_k")
        if type(best) is not int or best < 1:
            raise PromptError(f"'top_k' must be a whole number from 1: got {best!r}")
        batch = self._tokens(texts)
        given = {
            name: batch[name].to(self._model.device) for name in self._tokenizer.model_input_names if name in batch
        }
        output = self._model(**given)
        if self._task == "feature-extraction":
            return self._embeddings(output.last_hidden_state.float().cpu(), batch["attention_mask"])
        chances = self._chances(output.logits.float().cpu())
        if self._task == "text-classification":
            return [self._classes(row, best, "top_k" in parameters) for row in chances]
        if self._task == "token-classification":
            return [self._entities(batch, chances[row], row, text) for row, text in enumerate(texts)]
        return [self._filled(batch["input_ids"][row], chances[row], best) for row in range(len(texts))]

    def _tokens(self, texts: Sequence[str]) -> Any:
        if not texts or len(texts) > _MOST_TEXTS or not all(isinstance(text, str) and text for text in texts):
            raise PromptError(f"'inputs' must be a text, or 1 to {_MOST_TEXTS} texts, none of them empty")
        if (fault := next(filter(None, map(text_fault, texts)), None)) is not None:
            raise PromptError(fault)
        fast = {"return_offsets_mapping": True} if self._task == "token-classification" else {}
        batch = self._tokenizer(list(texts), padding=True, return_tensors="pt", return_special_tokens_mask=True, **fast)
        if not batch["attention_mask"].any(-1).all():
            raise PromptError("a text has no tokens; send at least one that the model's tokenizer knows")
        length = batch["input_ids"].shape[1]
        if self._positions is not None and length > self._positions:
            raise PromptError(f"a text has {length} tokens; the model has {self._positions} positions, shorten it")
        return batch

    def _embeddings(self, states: Tensor, mask: Tensor) -> list[Any]:
        """(texts, tokens, width) to a vector for each text."""
        if self._pooling == "mean":
            weights = mask.unsqueeze(-1)
            pooled = (states * weights).sum(1) / weights.sum(1)
        else:
            places = torch.zeros(len(states), dtype=torch.long) if self._pooling == "cls" else mask.sum(1) - 1
            pooled = states[torch.arange(len(states)), places]
        return list((torch.nn.functional.normalize(pooled, dim=-1) if self._normalize else pooled).tolist())

    def _chances(self, logits: Tensor) -> Tensor:
        """As transformers' pipelines have them: of labels that exclude each other, of labels each for itself (one
        label alone is a reranker's score), or a regression's own numbers."""
        if self._task == "text-classification" and self._problem == "regression":
            return logits
        apart = self._problem == "multi_label_classification" or logits.shape[-1] == 1
        return logits.sigmoid() if self._task == "text-classification" and apart else logits.softmax(-1)

    def _classes(self, chances: Tensor, best: int, many: bool) -> Any:
        found = chances.topk(min(best, len(chances)))
        rows = [
            {"label": self._label(index), "score": score}
            for index, score in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        ]
        return rows if many else rows[0]

    def _entities(self, batch: Any, chances: Tensor, row: int, text: str) -> list[dict[str, Any]]:
        scores, labels = chances.max(-1)
        entities = []
        for place, special in enumerate(batch["special_tokens_mask"][row].tolist()):
            label = self._label(int(labels[place]))
            if special or label == "O":
                continue
            start, end = batch["offset_mapping"][row][place].tolist()
            entity = {"entity": label, "score": float(scores[place]), "index": place, "word": text[start:end]}
            entities.append(entity | {"start": start, "end": end})
        return entities

    def _filled(self, ids: Tensor, chances: Tensor, best: int) -> list[dict[str, Any]]:
        masks = (ids == self._tokenizer.mask_token_id).nonzero().flatten().tolist()
        if len(masks) != 1:
            raise PromptError(f"each text must have one {self._tokenizer.mask_token}: got {len(masks)}")
        found = chances[masks[0]].topk(min(best, chances.shape[-1]))
        rows = []
        for token, score in zip(found.indices.tolist(), found.values.tolist(), strict=True):
            whole = ids.clone()
            whole[masks[0]] = token
            sequence = self._tokenizer.decode(whole, skip_special_tokens=True)
            rows.append(
                {"score": score, "token": token, "token_str": self._tokenizer.decode([token]), "sequence": sequence}
            )
        return rows

    def _label(self, index: int) -> str:
        return str(self._labels.get(index, f"LABEL_{index}"))
