"""A lock from a model's published config.json alone, where its weights cannot be read now. Not a lock to push with.

What it lacks is the files: their bytes are computed from config.json and its number format, and in place of their
digest stands that of the source and its commit. `heavylift plan` without --config reads the weights for the real one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heavylift.errors import InputError
from heavylift.plan.lock import FORMAT, Lock, LockedModel, Weights, unread
from heavylift.plan.model import SCHEMES, ModelFacts
from heavylift.spec import ModelSpec
from heavylift.weights.inspect import LARGEST_CONFIG, TORCH_DTYPES, beside


def published(spec: ModelSpec, spec_dir: Path, file: Path) -> Lock:
    """Raises InputError for a config.json that is none, or of a kind that the plan does not know."""
    config = _config(file)
    dtype = TORCH_DTYPES.get(str(config.get("dtype", config.get("torch_dtype"))))
    if dtype is None:
        stated = config.get("dtype", config.get("torch_dtype"))
        got = "nothing" if stated is None else repr(stated)
        raise InputError(
            f"{file} must say its 'dtype' (or 'torch_dtype'), in which the weights are stored: "
            f"{', '.join(TORCH_DTYPES)}; got {got}; add what the model's page says"
        )
    facts = ModelFacts.of(config)
    if facts.quantized is not None and facts.quantized not in SCHEMES:
        known = ", ".join(name for name, each in SCHEMES.items() if each is not None)
        raise InputError(
            f"{file}: 'quant_method' is '{facts.quantized}', of which the plan knows no bytes; it knows {known}; "
            "take a checkpoint that is in one of them"
        )
    source, revision = str(spec.model), spec.model.revision
    size = facts.weight_bytes(dtype) if facts.quantized is None else facts.weight_bytes(dtype, facts.quantized)
    model = LockedModel(
        source=source,
        revision=revision,
        config=dict(config),
        weights=Weights(unread(source, revision), size, ()),
        dtype=dtype,
        parameters=facts.parameters,
    )
    return Lock(FORMAT, model, **beside(spec, spec_dir))


def _config(file: Path) -> Mapping[str, Any]:
    try:
        text = file.read_bytes()
        if len(text) > LARGEST_CONFIG:
            raise ValueError("too large")
        config = json.loads(text)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{file} must be a JSON object, as a model's config.json")
    return config
