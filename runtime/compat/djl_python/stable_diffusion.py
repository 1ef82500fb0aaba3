"""LMI's handler of this name: pictures from words, with any pipeline of diffusers. Not a schema of text.

A request is `{"prompt": "…", "parameters": {…}}` (`inputs` means `prompt`); the reply `{"images": ["base64 PNG"]}`,
or with `Accept: image/png` the picture itself. The same seed gives the same picture.
"""

from __future__ import annotations

import base64
import importlib.util
import io
from pathlib import Path
from typing import Any

from djl_python.inputs import Input
from djl_python.outputs import Output

_SIDE = (8, 2048)  # pixels, in eights
_WHOLE = {"num_inference_steps": (1, 500), "height": _SIDE, "width": _SIDE, "num_images_per_prompt": (1, 8)}
_TEXTS = ("negative_prompt",)
_pipeline: Any = None


def handle(inputs: Input) -> Output | None:
    """Called once without content, to load the pipeline, and then for each request."""
    global _pipeline
    if _pipeline is None:
        _pipeline = _load(inputs.get_properties())
    if inputs.is_empty():
        return None
    try:
        prompts, given, seed = _wish(inputs.get_as_json())
    except ValueError as error:
        return Output().error(str(error), 400, "the request cannot be answered")
    import torch

    generator = None if seed is None else torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        images = _pipeline(prompts, generator=generator, output_type="pil", **given).images
    pictures = [_png(image) for image in images]
    if str(inputs.get_property("accept") or "").startswith("image/png"):
        return Output().add_property("content-type", "image/png").add(pictures[0])
    texts = [base64.b64encode(picture).decode() for picture in pictures]
    return Output().add_property("content-type", "application/json").add_as_json({"images": texts})


def _load(properties: dict[str, Any]) -> Any:
    if importlib.util.find_spec("diffusers") is None:
        raise ImportError("this handler needs diffusers: install heavylift's extra 'diffusers'")
    import torch
    from diffusers import DiffusionPipeline

    dtypes = {"auto": "auto", "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    place = Path(properties["model_dir"], properties.get("model_id", "."))
    settings = {"torch_dtype": dtypes[properties.get("dtype", "fp32")], "local_files_only": True}
    pipeline: Any = DiffusionPipeline.from_pretrained(  # type: ignore[no-untyped-call]  # theirs has no types
        str(place), **settings
    )
    pipeline.set_progress_bar_config(disable=True)
    number = max(int(properties.get("device_id", -1)), 0)
    return pipeline.to(f"cuda:{number}" if torch.cuda.is_available() else "cpu")


def _wish(document: Any) -> tuple[list[str], dict[str, Any], int | None]:
    """The prompts, the pipeline's arguments and the seed; ValueError with every fault."""
    if not isinstance(document, dict):
        raise ValueError('the body must be JSON like {"prompt": "…"}')
    prompt, parameters = document.get("prompt", document.get("inputs")), document.get("parameters") or {}
    prompts = [prompt] if isinstance(prompt, str) else prompt
    faults = []
    if not isinstance(prompts, list) or not prompts or not all(isinstance(each, str) and each for each in prompts):
        faults.append("'prompt' must be a text or a list of texts")
    if not isinstance(parameters, dict):
        raise ValueError(f"'parameters' must be an object: got {parameters!r}")
    parameters = dict(parameters)
    seed = parameters.pop("seed", None)
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**63):
        faults.append(f"'seed' must be a whole number from 0: got {seed!r}")
    for name, value in parameters.items():
        if name in _WHOLE:
            low, high = _WHOLE[name]
            if type(value) is not int or not low <= value <= high or (name in ("height", "width") and value % 8):
                faults.append(f"{name!r} must be a whole number from {low} to {high}, sides in eights: got {value!r}")
        elif name == "guidance_scale":
            if type(value) not in (int, float) or not 0 <= value <= 100:
                faults.append(f"'guidance_scale' must be a number from 0 to 100: got {value!r}")
        elif name in _TEXTS:
            if not isinstance(value, str):
                faults.append(f"{name!r} must be a text: got {value!r}")
        else:
            known = ", ".join([*_WHOLE, *_TEXTS, "guidance_scale", "seed"])
            faults.append(f"unknown parameter {name!r}: use {known}")
    if faults:
        raise ValueError("; ".join(faults))
    if "negative_prompt" in parameters:
        parameters["negative_prompt"] = [parameters["negative_prompt"]] * len(prompts or ())
    return list(prompts or ()), parameters, seed


def _png(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
