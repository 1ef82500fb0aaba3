"""What each engine can do by its own documentation, with version and date; and the page that says so. No torch.

Not what this version runs of it: that is registry.py, which the page sets beside it. The page is written by
`python -m heavylift_runtime.engines.documented docs/capabilities.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from heavylift_runtime.engines.registry import ANY, ENGINES, Capabilities

WRITTEN = "2026-11-21"
"""When the table below was put together, and its pages were last read."""


@dataclass(frozen=True)
class Documented:
    """One engine, in its authors' words; "-" where they say nothing."""

    version: str
    parallel: str
    split_at_load: str
    split_ahead: str
    split_on_host: str
    batches: str
    adapters: str
    loading: str
    multi_model: str
    hardware: str
    sources: tuple[str, ...]


MULTI_MODEL = "https://docs.aws.amazon.com/sagemaker/latest/dg/multi-model-support.html"
_MME = "yes"
_NO_MME = "no: SageMaker has them on processors and GPUs"
DOCUMENTED: Mapping[str, Documented] = MappingProxyType(
    {
        "native": Documented(
            "this one", "tensor, pipeline", "yes, each rank its own bytes", "yes", "yes", "continuous", "no", "fast",
            _MME, "CPU",
            ("architecture.md",),
        ),
        "fastertransformer": Documented(
            "FasterTransformer 5.3 (frozen in 2023), djl-serving 0.23", "tensor, pipeline", "yes", "yes", "yes",
            "static", "no", "fast", _MME, "GPU",
            (
                "https://github.com/NVIDIA/FasterTransformer",
                "https://github.com/deepjavalibrary/djl-serving/tree/v0.23.0",
            ),
        ),
        "deepspeed": Documented(
            "DeepSpeed 0.19", "tensor (AutoTP)", "yes", "yes", "no", "static (continuous in DeepSpeed-MII)", "no",
            "fast", _MME, "GPU, CPU",
            (
                "https://www.deepspeed.ai/tutorials/inference-tutorial/",
                "https://www.deepspeed.ai/tutorials/automatic-tensor-parallelism/",
            ),
        ),
        "accelerate": Documented(
            "accelerate 1.15, transformers 5.23", "layers over devices; tensor (tp_plan)", "yes", "no", "no",
            "static", "PEFT's, merged", "medium", _MME, "CPU, GPU",
            (
                "https://huggingface.co/docs/accelerate/concept_guides/big_model_inference",
                "https://huggingface.co/docs/transformers/perf_infer_gpu_multi",
            ),
        ),
        "neuronx": Documented(
            "NxD Inference 0.9 (Neuron 2.29; the engine here is of 0.6), Transformers NeuronX 0.13 (archived)",
            "tensor", "yes",
            "compiles; NxD Inference splits, too", "NxD Inference: yes",
            "continuous (of Transformers NeuronX Llama and Mistral)", "NxD Inference: several LoRA", "-", _NO_MME,
            "Inf2, Trn1; NxD Inference: Trn2",
            (
                "https://awsdocs-neuron.readthedocs-hosted.com/en/latest/libraries/nxd-inference/api-guides/api-guide.html",
                "https://awsdocs-neuron.readthedocs-hosted.com/en/v2.29.1/libraries/nxd-inference/developer_guides/vllm-user-guide-v1.html",
                "https://awsdocs-neuron.readthedocs-hosted.com/en/v2.21.0/libraries/transformers-neuronx/transformers-neuronx-developer-guide.html",
            ),
        ),
        "vllm": Documented(
            "vLLM 0.32", "tensor, pipeline, expert, data", "yes", "yes (sharded_state)", "no", "continuous",
            "several LoRA", "medium", _MME, "GPU, CPU, and others' plug-ins",
            (
                "https://docs.vllm.ai/en/latest/",
                "https://docs.vllm.ai/en/latest/serving/parallelism_scaling.html",
                "https://docs.vllm.ai/en/latest/examples/features/sharded_state/",
            ),
        ),
        "script": Documented(
            "djl-serving 0.23 to 0.36", "the script's own", "-", "-", "-", "as many requests as batch_size", "-", "-",
            _MME, "the script's own", ("https://docs.djl.ai/master/docs/serving/index.html",),
        ),
    }
)  # fmt: skip

_SAID = (
    ("model parallel", "parallel"),
    ("splits as it loads", "split_at_load"),
    ("ahead of time", "split_ahead"),
    ("in the host's memory", "split_on_host"),
    ("batches", "batches"),
    ("adapters", "adapters"),
    ("loading", "loading"),
    ("multi-model endpoints", "multi_model"),
    ("hardware", "hardware"),
    ("version", "version"),
)


def page() -> str:
    """docs/capabilities.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# What each engine can do"
    yield ""
    yield "Written by `python -m heavylift_runtime.engines.documented docs/capabilities.md`; a test compares it"
    yield "with the registry. Which to pick when: [engines.md](engines.md)."
    yield ""
    yield "## In this version"
    yield ""
    yield "From `heavylift_runtime/engines/registry.py`, which the model file's rules, the plan and the server ask:"
    yield "what is not here is refused at synthesis, with a sentence."
    yield ""
    names = list(ENGINES)
    yield from _table(["", *(f"`{name}`" for name in names)], [
        [title, *(_shown(ENGINES[name], field) for name in names)]
        for title, field in (
            ("models (`model_type`)", "families"), ("hardware", "hardware"), ("dtype", "dtypes"),
            ("quantization", "quantizations"), ("tensor parallel", "tensor_parallel"),
            ("pipeline parallel", "pipeline_parallel"), ("split ahead of time", "aot_partition"),
            ("streams tokens", "streams"), ("adapters", "adapters"), ("answers bound to a form", "structured"),
            ("best for", "best_for"),
        )
    ])  # fmt: skip
    yield ""
    yield "## By their own documentation"
    yield ""
    yield f"Put together on {WRITTEN} from the pages below (FasterTransformer's and djl-serving's: from their sources)"
    yield "and from the versions that were run here; the last page says which instances have multi-model endpoints. All"
    yield "of them load Hugging Face's checkpoints and stream tokens."
    yield ""
    rows = [[title, *(getattr(DOCUMENTED[name], field) for name in names)] for title, field in _SAID]
    yield from _table(["", *(f"`{name}`" for name in names)], rows)
    yield ""
    for name in names:
        links = (f"<{url}>" if "://" in url else f"[{url}]({url})" for url in DOCUMENTED[name].sources)
        yield f"- `{name}`: {', '.join(links)}"
    yield f"- multi-model endpoints: <{MULTI_MODEL}>"


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _shown(row: Capabilities, field: str) -> str:
    if not row.available:
        return row.why_not or ""
    value = getattr(row, field)
    if field == "tensor_parallel" and row.split_families:
        return f"of {', '.join(row.split_families)}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return "any" if ANY in value else ", ".join(value)


def main(arguments: list[str]) -> None:
    """Write the page to the path that is given."""
    (path,) = arguments
    Path(path).write_text(page(), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
