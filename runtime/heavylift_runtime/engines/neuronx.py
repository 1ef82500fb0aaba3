"""AWS's Neuron SDK behind the seam of engine.py: from options and a checkpoint to an engine, or to compiled files.

Not the SDK's calls (neuronx_sdk.py), not the shapes (neuronx_build.py), not the batches (neuronx_rows.py).
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import transformers

from heavylift_runtime.engines import neuronx_artifact as artifact
from heavylift_runtime.engines.download import fetch
from heavylift_runtime.engines.neuronx_build import Build
from heavylift_runtime.engines.neuronx_rows import NeuronEngine
from heavylift_runtime.engines.neuronx_sdk import CACHE, device_of, installed, instance_family
from heavylift_runtime.errors import LoadError
from heavylift_runtime.options import Options

Report = Callable[[str], None]


def load(
    options: Options,
    model_dir: Path,
    rank: int,
    world: int,
    rendezvous: str,
    report: Report = lambda line: None,
) -> NeuronEngine:
    """The engine, loaded; LoadError says what does not fit.

    What was compiled ahead is what `option.compiled_graph_path` names, a folder or an S3 prefix; else it compiles.
    """
    assert world == 1, "the registry says that the SDK drives all cores from one process"
    scratch = Path(rendezvous.removeprefix("file://")).parent
    started = time.monotonic()
    place = _folder(options.model_id, model_dir, scratch, report)
    config = _config(place)
    build = Build.of(options, config)
    versions = installed(build.library)
    compiled = _compiled(options, model_dir, place, scratch, build, report)
    how = "loading what was compiled ahead" if compiled is not None else "compiling, which takes minutes"
    report(f"{versions}: {how} for {build.rows} rows of {build.longest} tokens on {build.degree} cores")
    device = device_of(place, build, scratch)
    device.prepare(compiled)
    report(f"model: ready after {time.monotonic() - started:.2f} s")
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    return NeuronEngine(device, build, tokenizer, int(config["vocab_size"]), _ends(place, config))


def compile(options: Options, source: Path, target: Path, report: Report = lambda line: None) -> None:
    """Compile the checkpoint in `source`, ahead of time, into the folder `target`; LoadError says what does not fit.

    The folder is complete once it has its manifest, and good for the same model, SDK, instance family, degree, type,
    rows and lengths only (docs/formats.md). Transformers NeuronX compiles on NeuronCores, NxD Inference anywhere.
    """
    if target.exists() and any(target.iterdir()):
        raise LoadError(f"{target} is not empty: give a new folder, what is compiled is never mixed with other files")
    build = Build.of(options, _config(source))
    key = key_of(build, source)
    compiled = target / artifact.COMPILED
    compiled.mkdir(parents=True)
    if not build.limits.saves:
        os.environ[CACHE] = str(compiled)
    report(f"{key['sdk']}: compiling {build.family} for {build.rows} rows of {build.longest} tokens")
    device = device_of(source, build, target)
    if build.library == "tnx":
        device.prepare(None)
    device.save(compiled)
    artifact.finish(target, key)
    report(f"compiled: {target}")


def key_of(build: Build, place: Path) -> dict[str, Any]:
    """What compiled files are good for."""
    return {
        "model": artifact.model_digest(place),
        "sdk": installed(build.library),
        "instance": instance_family(),
        **build.to_json(),
    }


def _compiled(
    options: Options, model_dir: Path, place: Path, scratch: Path, build: Build, report: Report
) -> Path | None:
    """The SDK's files, checked; None where nothing was compiled ahead."""
    given = options.properties.get("compiled_graph_path")
    if given is None:
        return None
    apart = scratch / "neuron"
    apart.mkdir(exist_ok=True)
    folder = _folder(given, model_dir, apart, report)  # from S3 every file is compared as it comes
    found = artifact.check(folder, key_of(build, place), proved=given.startswith("s3://"))
    if build.limits.saves:
        return found
    # the compiler's cache has locks, and the model's folder is only read
    return Path(shutil.copytree(found, apart / "cache", dirs_exist_ok=True))


def _folder(model_id: str | None, model_dir: Path, scratch: Path, report: Report) -> Path:
    if model_id is None:
        return model_dir
    if model_id.startswith("s3://"):
        return fetch(model_id, scratch, report)
    return model_dir / model_id


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{folder} has no config.json that can be read: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("vocab_size"), int):
        raise LoadError(f"{folder / 'config.json'} must be an object with 'model_type' and 'vocab_size'")
    return config


def _ends(folder: Path, config: Mapping[str, Any]) -> frozenset[int]:
    """The end-of-sequence tokens: generation_config.json's, else config.json's."""
    path = folder / "generation_config.json"
    own = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    end = own.get("eos_token_id", config.get("eos_token_id"))
    return frozenset([end] if isinstance(end, int) else end or ())
