"""LMI's handler of this name: `option.task` says what the model is for. Text has engine accelerate (text_service.py).

For models that answer with numbers, a request is `{"inputs": a text or a list, "parameters": {…}}`, or plain text;
requests that come together are computed together, where their parameters are the same.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from djl_python.encode_decode import decode, encode
from djl_python.inputs import Input
from djl_python.outputs import Output
from djl_python.text_service import TextService, handle_with
from heavylift_runtime.engines.encoders import Encoder
from heavylift_runtime.engines.pretrained import Pretrained
from heavylift_runtime.engines.tasks import GENERATING
from heavylift_runtime.errors import PromptError
from heavylift_runtime.options import Options

_encoder: Encoder | None = None


class HuggingFaceService(TextService):
    """One model that writes text, by transformers."""


_service = HuggingFaceService()


def handle(inputs: Input) -> Output | None:
    """Called once without content, to load the model, and then for each request or batch of them."""
    global _encoder
    if _encoder is None and not _service.initialized:
        properties = {key: str(value) for key, value in inputs.get_properties().items()}
        pretrained = _pretrained(properties)
        _encoder = None if pretrained.task in GENERATING else _load(pretrained, properties)
    if _encoder is None:
        return handle_with(_service, inputs)
    if inputs.is_empty():
        return None
    outputs = Output()
    try:
        wishes = [_wish(each) for each in inputs.get_batches()]
        if any(parameters != wishes[0][1] for _, parameters, _ in wishes):
            answers = [_encoder.answer(texts, parameters) for texts, parameters, _ in wishes]
        else:
            every = iter(_encoder.answer([text for texts, _, _ in wishes for text in texts], wishes[0][1]))
            answers = [[next(every) for _ in texts] for texts, _, _ in wishes]
    except (PromptError, ValueError, KeyError) as error:
        return outputs.error(str(error), 400, "the request cannot be answered")
    for number, ((_, _, accept), answer) in enumerate(zip(wishes, answers, strict=True)):
        encode(outputs, answer, accept, key=f"batch_{number}.data" if len(wishes) > 1 else "data")
    return outputs


def _pretrained(properties: dict[str, str]) -> Pretrained:
    options = Options(
        engine="accelerate",
        model_id=properties.get("model_id"),
        dtype=properties.get("dtype", "auto"),
        properties=properties,
    )
    scratch = Path(tempfile.gettempdir())
    return Pretrained(options, Path(properties["model_dir"]), scratch, lambda line: None)


def _load(pretrained: Pretrained, properties: dict[str, str]) -> Encoder:
    if torch.cuda.is_available():
        torch.cuda.set_device(max(int(properties.get("device_id", -1)), 0))
    normalize = properties.get("normalize", "true").lower() == "true"
    return Encoder(pretrained, properties.get("pooling", "mean"), normalize)


def _wish(request: Input) -> tuple[list[Any], dict[str, Any], str | None]:
    """The texts, the parameters and what the client accepts."""
    document = decode(request, request.get_property("content-type"))
    if not isinstance(document, dict) or "inputs" not in document:
        raise PromptError('the body must be JSON like {"inputs": "…"}')
    texts, parameters = document["inputs"], document.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise PromptError(f"'parameters' must be an object: got {parameters!r}")
    return [texts] if isinstance(texts, str) else list(texts), parameters, request.get_property("accept")
