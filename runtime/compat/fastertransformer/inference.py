"""`init_inference` and `save_checkpoint`: a checkpoint as a model on its ranks, or as files for them. Not the model.

Under MPI (`engine=MPI`) every rank of the script calls these: each then starts the model's rank of its own number, and
what the others' models answer is empty, as only rank 0's answers are sent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastertransformer.model import InferenceModel
from heavylift_runtime.engines.children import beside
from heavylift_runtime.engines.registry import ENGINES, encoder_fault
from heavylift_runtime.families.stages import Stage
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.partition import partition
from heavylift_runtime.native.sources import source_of
from heavylift_runtime.options import Options

_DTYPES = ("fp32", "fp16", "bf16", "int8")
_IGNORED = ("use_triton", "do_streaming", "lib_path", "num_convert_process", "verbose")  # of kernels that are not here


def init_inference(
    model: str,
    tensor_parallel_degree: int = 1,
    pipeline_parallel_degree: int = 1,
    dtype: str = "fp32",
    **others: Any,
) -> InferenceModel:
    """A folder or an S3 prefix as a model, loaded on as many processes as the degree says.

    ValueError or NotImplementedError, with a sentence, for what FasterTransformer or the engine does not have.
    """
    kind = _check(model, tensor_parallel_degree, pipeline_parallel_degree, dtype, others)
    options = Options(
        engine="fastertransformer",
        model_id=model,
        dtype="auto" if dtype == "int8" else dtype,
        quantize="int8" if dtype == "int8" else "none",
        tensor_parallel_degree=tensor_parallel_degree,
        pipeline_parallel_degree=pipeline_parallel_degree,
        max_rolling_batch_size=256,
    )
    return InferenceModel(lambda: beside(options, Path.cwd()), model, kind)


def save_checkpoint(
    model: str,
    tensor_parallel_degree: int = 1,
    pipeline_parallel_degree: int = 1,
    save_mp_checkpoint_path: str = "",
    dtype: str = "fp32",
    **others: Any,
) -> str:
    """Writes each rank's weights into a folder, which `init_inference` then loads; the folder."""
    _check(model, tensor_parallel_degree, pipeline_parallel_degree, dtype, others)
    if not save_mp_checkpoint_path or "://" in save_mp_checkpoint_path:
        raise ValueError(f"save_mp_checkpoint_path must be a local folder: got {save_mp_checkpoint_path!r}")
    quantize, kept = ("int8", "auto") if dtype == "int8" else ("none", dtype)
    source = source_of(model, Path.cwd())
    out, stages = Path(save_mp_checkpoint_path), pipeline_parallel_degree
    partition(source, out, tensor_parallel_degree, kept, quantize=quantize, stages=stages)
    return save_mp_checkpoint_path


def _check(model: str, tensor: int, pipeline: int, dtype: str, others: dict[str, Any]) -> str:
    """The model's type; raises for what cannot be."""
    has = ENGINES["fastertransformer"].families
    unknown = [name for name in others if name not in (*_IGNORED, "is_peft")]
    if unknown:
        raise TypeError(
            f"unknown argument {unknown[0]!r}: use tensor_parallel_degree, pipeline_parallel_degree or dtype"
        )
    if others.get("is_peft"):
        raise NotImplementedError("is_peft: merge the adapter into the checkpoint first")
    if dtype not in _DTYPES:
        raise NotImplementedError(f"dtype must be one of {', '.join(_DTYPES)}: got {dtype!r}")
    checkpoint = Checkpoint.open(source_of(model, Path.cwd()), 0, tensor, Stage(0, pipeline))
    kind = str(checkpoint.config.get("model_type"))
    if kind not in has:
        why = encoder_fault("FasterTransformer", kind) or f"FasterTransformer had {', '.join(has)}"
        raise ValueError(f"{kind} type not supported for model {model}: {why}")
    if kind == "t5" and dtype == "int8":
        raise NotImplementedError("FasterTransformer had no int8 for T5: use fp32 or bf16, or engine=native")
    return kind
