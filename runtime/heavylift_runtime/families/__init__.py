"""The model families that Heavylift knows, found by a checkpoint's config.json.

Not the forward passes (native/architectures/), and no torch: the plan computes memory from the same tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families.bloom import Bloom
from heavylift_runtime.families.gpt2 import GPT2
from heavylift_runtime.families.gpt_neox import GPTNeoX
from heavylift_runtime.families.gptj import GPTJ
from heavylift_runtime.families.llama import SILENT as LLAMAS
from heavylift_runtime.families.llama import Llama
from heavylift_runtime.families.mixtral import Mixtral
from heavylift_runtime.families.opt import OPT
from heavylift_runtime.families.t5 import T5
from heavylift_runtime.families.table import Family

FAMILIES: dict[str, Family] = {
    "t5": T5(),
    "gpt2": GPT2(),
    "opt": OPT(),
    "bloom": Bloom(),
    "gptj": GPTJ(),
    "gpt_neox": GPTNeoX(),
    **dict.fromkeys(LLAMAS, Llama()),
    "mixtral": Mixtral(),
}
"""By the `model_type` of config.json. FLAN-T5 and T5 v1.1 say `t5` too."""


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a checkpoint, from its parsed config.json; LoadError says which ones are known."""
    model_type = config.get("model_type")
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        known = ", ".join(f"{name!r} ({family.title})" for name, family in FAMILIES.items())
        raise LoadError(
            f"config.json: 'model_type' is {model_type!r}, which the native engine does not know; it knows {known}"
        )
    return family
