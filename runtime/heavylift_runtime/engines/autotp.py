"""A model of transformers whose layers DeepSpeed splits over the ranks: at load time, or ahead of time into files.

Not an engine: deepspeed.py. DeepSpeed's own files of split layers can be written by its automatic tensor parallelism
and not read by it (0.19: `checkpoints` must be a list of whole ones there), so that ours have its description
(ds_inference_config.json) and one safetensors file for each rank, with all that the rank holds.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from heavylift_runtime.engines.pretrained import Pretrained
from heavylift_runtime.engines.rankfiles import RankFiles
from heavylift_runtime.errors import LoadError, ran_out
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.options import Options

_OURS = (
    "dtype",
    "tensor_parallel",
    "tp",
    "mp_size",
    "checkpoint",
    "save_mp_checkpoint_path",
    "replace_with_kernel_inject",
)
SPLIT = ("gpt_neox", "gptj", "llama", "mistral", "mixtral", "opt", "qwen2", "qwen3", "t5")
"""Families of which two ranks gave transformers' own tokens (tests/test_deepspeed.py)."""
_GROUP = 64  # numbers that share a scale
_PASSED = {"triangular_masking": "triangular_masking", "return_tuple": "return_tuple", "max_tokens": "max_out_tokens"}


def split(pretrained: Pretrained, options: Options, group: Group, report: Callable[[str], None]) -> Any:
    """This rank's part of the model, ready to compute; LoadError where DeepSpeed cannot split it."""
    properties = options.properties
    rounded = options.quantize != "none"
    ready, wanted = properties.get("checkpoint"), properties.get("save_mp_checkpoint_path")
    files = None if ready is None else RankFiles.open(Path(pretrained.place), ready, pretrained, group)
    if files is None:
        report(f"loading {pretrained.place} for {pretrained.task}, whole on every rank")
        model = pretrained.model(on_host=True)
        model = model.half() if rounded else model
    else:
        model = pretrained.skeleton(files.dtype)
    settings = _settings(options, Path(pretrained.place)) | {"dtype": model.dtype}
    report(f"DeepSpeed: splitting the model over {group.world} ranks")
    with _as_load_error(pretrained.place), _stdout_is_the_log(), torch.inference_mode():
        if rounded:  # one rank: there is nothing to split, and a processor's fp16 is none of DeepSpeed's types
            _round(model)
        else:
            model = _initialized(model, settings, group)
    if files is not None:
        with torch.inference_mode():
            files.fill(model, report)
    if wanted is not None:
        RankFiles.write(model, pretrained, Path(wanted), group, report)
    return model.eval()


def _initialized(model: Any, settings: dict[str, Any], group: Group) -> Any:
    os.environ.setdefault("LOCAL_RANK", str(group.rank))
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed
    from deepspeed.git_version_info import installed_ops

    if not installed_ops.get("deepspeed_shm_comm"):  # it would be compiled now, and wait for ever for a killed compiler
        deepspeed.ops.__compatible_ops__ = {}
    if group.world > 1:  # it would keep the group of a model that is gone, and know none but the default backend
        from deepspeed.inference.engine import InferenceEngine

        deepspeed.init_distributed()
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        InferenceEngine.inference_mp_group = torch.distributed.new_group(list(range(group.world)), backend=backend)
    sizes = {"tp_size": group.world}
    return deepspeed.init_inference(model, tensor_parallel=sizes, **settings).module


def _round(model: Any) -> None:
    """The layers' matrices to 8 bits, by DeepSpeed's group-wise quantization of weights (ZeRO-Inference), in fp16.

    Groups go along the first dimension: along the last, DeepSpeed would want a kernel that processors do not have.
    """
    from deepspeed.inference.quantization.quantization import _init_group_wise_weight_quantization

    blocks = next(name for name, each in model.named_modules() if isinstance(each, torch.nn.ModuleList))
    linear = [each for name, each in model.named_modules() if name.startswith(blocks) and hasattr(each, "out_features")]
    size = math.gcd(_GROUP, *(each.out_features for each in linear))
    how = {"num_bits": 8, "group_size": size, "group_dim": 0, "symmetric": False}
    _init_group_wise_weight_quantization(model, {"weight_quantization": {"post_init_quant": {blocks: how}}})


def check(pretrained: Pretrained, options: Options, world: int) -> None:
    """LoadError for what DeepSpeed would not say, or not in a sentence; before the ranks meet."""
    if options.quantize != "none" and (
        world > 1 or pretrained.dtype not in ("auto", torch.float16) or pretrained.config.is_encoder_decoder
    ):
        raise LoadError(
            "option.quantize=int8 of DeepSpeed rounds decoder-only models of one rank in fp16: set "
            f"option.tensor_parallel_degree=1 and option.dtype=fp16; got degree {world}, {pretrained.dtype} and "
            f"{pretrained.config.model_type}"
        )
    config = pretrained.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None)
    if isinstance(heads, int) and heads < world:
        raise LoadError(
            f"option.tensor_parallel_degree is {world}, and the model has {heads} heads of keys: every rank needs one, "
            f"use at most {heads}"
        )
    if world > 1 and pretrained.config.model_type not in SPLIT:
        raise LoadError(
            f"DeepSpeed's automatic tensor parallelism was not seen to split {pretrained.config.model_type} rightly "
            "(of bloom it leaves the heads' biases whole, gpt2's layers it does not know), but "
            f"{', '.join(SPLIT)}: set option.tensor_parallel_degree=1"
        )


def _settings(options: Options, folder: Path) -> dict[str, Any]:
    """init_inference's: of the file that `option.deepspeed_config_path` names, and of LMI's options."""
    settings: dict[str, Any] = {}
    if (name := options.properties.get("deepspeed_config_path")) is not None:
        try:
            settings = json.loads((folder / name).read_text("utf-8"))
            assert isinstance(settings, dict)
        except (OSError, ValueError, AssertionError) as error:
            raise LoadError(
                f"option.deepspeed_config_path={name} must be a file of the model with JSON: {error}"
            ) from error
        if settings.get("replace_with_kernel_inject") or settings.get("kernel_inject"):
            raise LoadError(
                "DeepSpeed's kernels (replace_with_kernel_inject) keep one cache for all requests: this engine splits "
                f"layers only, leave it out of {name}"
            )
        if ours := sorted(settings.keys() & set(_OURS)):
            raise LoadError(f"{name} sets {', '.join(ours)}: set option.dtype, option.tensor_parallel_degree and so on")
    for ours_, theirs in _PASSED.items():
        if (text := options.properties.get(ours_)) is not None:
            settings[theirs] = json.loads(text)
    return settings


@contextlib.contextmanager
def _stdout_is_the_log() -> Iterator[None]:
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def _as_load_error(place: str) -> Iterator[None]:
    try:
        yield
    except (AssertionError, ValueError, TypeError, RuntimeError, NotImplementedError, ImportError) as error:
        if ran_out(error):
            raise
        raise LoadError(f"DeepSpeed cannot split {place}: {type(error).__name__}: {error}") from error
