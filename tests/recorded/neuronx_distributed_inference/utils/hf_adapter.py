"""How a checkpoint's config comes into an InferenceConfig."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers


def load_pretrained_config(place: str) -> Callable[[Any], None]:
    def load(config: Any) -> None:
        for name, value in transformers.AutoConfig.from_pretrained(place).to_dict().items():
            setattr(config, name, value)

    return load
