"""What a plan is made of, for tests: a model file's values, and a lock as inspection would write it.

Not weights: nobody has to hold them. Plans that exist already: plans.py.
"""

from __future__ import annotations

from typing import Any

from heavylift.plan.digest import File, digest
from heavylift.plan.lock import FORMAT, Files, Lock, LockedModel, Weights
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift_runtime.families import family_of

XXL = {  # google/flan-t5-xxl's config.json, the fields that shape it
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_decoder_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
SMALL = {**XXL, "d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 4, "num_decoder_layers": 4, "num_heads": 4}
SLO = {"metric": "e2e_latency", "percentile": 90.0, "max_ms": 2000.0}
BENCHMARK = {"workload": "four-tasks", "slo": [SLO]}


def spec_of(**fields: Any) -> ModelSpec:
    """A model file with a benchmark, and with these fields."""
    return ModelSpec.model_validate({"name": "x", "model": {"path": "m"}, "benchmark": BENCHMARK, **fields})


def lock_of(config: dict[str, Any] | None, *, size: int | None = None, code: bool = False, **fields: Any) -> Lock:
    """A lock as inspect would write it, of fp32 weights that nobody has to hold."""
    parameters = None if config is None else family_of(config).parameters(config)
    weights = size if size is not None else 4 * (parameters or 0)
    files = (File("config.json", 700, "c" * 64), File("model.safetensors", weights, "d" * 64))
    entries = (File("model.py", 500, "e" * 64),)
    known = {
        "source": "path:m",
        "revision": None,
        "config": config,
        "dtype": "fp32",
        "parameters": parameters,
        **fields,
    }
    model = LockedModel(weights=Weights(digest(files), weights + 700, files), **known)
    return Lock(FORMAT, model, Files(digest(entries), entries) if code else None)


def why(plan: Plan, field: str) -> str:
    """The arithmetic of a decision."""
    return next(row.why for row in plan.decisions if row.field == field)
