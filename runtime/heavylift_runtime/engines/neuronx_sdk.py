"""Every call of AWS's Neuron SDK, and nothing else: two libraries behind one small interface. Not an engine.

Never run on Neuron hardware: the calls are those of the libraries' documentation and source, and tests make them
against a recorded interface (tests/recorded). Transformers NeuronX 0.13 (Neuron 2.21 to 2.25): its developer guides and
https://github.com/aws-neuron/transformers-neuronx; how slots are addressed, also vLLM 0.6's model_loader/neuron.py.
NxD Inference (Neuron 2.21 and later): its API guide and https://github.com/aws-neuron/neuronx-distributed-inference.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from heavylift_runtime.engines.neuronx_build import AMPS, LIBRARIES, Build
from heavylift_runtime.errors import LoadError

_INDEX = "https://pip.repos.neuron.amazonaws.com"
_PLACEHOLDERS = ("0.1", "0.1.0")  # PyPI's packages of these names say "WRONG PACKAGE"
_MODULES = {  # NxD Inference: module under `models`, prefix of its classes
    "llama": ("llama.modeling_llama", "Llama"),
    "mistral": ("llama.modeling_llama", "Llama"),
    "mixtral": ("mixtral.modeling_mixtral", "Mixtral"),
    "qwen2": ("qwen2.modeling_qwen2", "Qwen2"),
    "qwen3": ("qwen3.modeling_qwen3", "Qwen3"),
}
_TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_PRODUCT = Path("/sys/devices/virtual/dmi/id/product_name")  # of an EC2 instance: its type
CACHE = "NEURON_COMPILE_CACHE_URL"
"""Where the compiler keeps what it made, by the hash of what it was given (Neuron Persistent Cache)."""


class Device(Protocol):
    """A model on NeuronCores. A slot is the number of a row; a step names every row that runs, or its cache is lost."""

    def prepare(self, artifact: Path | None) -> None:
        """Load what was compiled, or compile now."""

    def save(self, target: Path) -> None:
        """Write what was compiled."""

    def read(self, rows: Mapping[int, Sequence[int]]) -> Mapping[int, Tensor]:
        """Slot → scores (vocabulary,) after these tokens."""

    def step(self, rows: Mapping[int, tuple[int, int]]) -> Mapping[int, Tensor]:
        """Slot → scores after one more token, at its position."""

    @property
    def room(self) -> int:
        """Steps that are possible before all rows must be read again."""


def device_of(place: Path, build: Build, scratch: Path) -> Device:
    """The model, not on the device yet; raises LoadError where the library is not there."""
    installed(build.library)
    os.environ.setdefault("NEURON_RT_NUM_CORES", str(build.degree))  # copies on one machine share its cores
    if build.library == "nxdi":
        return DistributedInference(place, build, scratch)
    if build.flags:
        flags = f"{os.environ.get('NEURON_CC_FLAGS', '')} --model-type=transformer {' '.join(build.flags)}"
        os.environ["NEURON_CC_FLAGS"] = flags.strip()
    return (TransformersSlots if build.limits.continuous else TransformersBatch)(place, build)


def installed(library: str) -> str:
    """The versions of the library and its compiler; raises LoadError with what to install."""
    name = LIBRARIES[library]
    try:
        found = version(name)
    except PackageNotFoundError:
        found = ""
    if not found or found in _PLACEHOLDERS:
        why = "PyPI's package of that name is an empty one" if found else "it is not installed"
        raise LoadError(f"engine neuronx needs {name}, and {why}: pip install {name} --extra-index-url={_INDEX}")
    try:
        return f"{name} {found}, neuronx-cc {version('neuronx-cc')}"
    except PackageNotFoundError:
        return f"{name} {found}"


def instance_family() -> str:
    """inf2, trn1 or trn2: what the compiler's output is for; the variable names it where the job runs elsewhere."""
    family = os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE", "")
    if not family:
        try:
            family = _PRODUCT.read_text("ascii").strip().removeprefix("ml.").partition(".")[0]
        except (OSError, UnicodeDecodeError):
            family = ""
    return family if family.startswith(("inf", "trn")) else "unknown"


class TransformersBatch:
    """Transformers NeuronX, one batch after another: rows are padded on the left and share the place in the cache."""

    def __init__(self, place: Path, build: Build) -> None:
        self._build, self._at = build, 0
        self._model = _transformers_model(place, build)
        self._slots: list[int] = []

    def prepare(self, artifact: Path | None) -> None:
        if artifact is not None:
            if self._build.limits.saves:
                self._model.load(str(artifact))
            else:
                os.environ[CACHE] = str(artifact)
        self._model.to_neuron()

    def save(self, target: Path) -> None:
        if self._build.limits.saves:
            self._model.save(str(target))  # else the compiler has written to CACHE already

    def read(self, rows: Mapping[int, Sequence[int]]) -> Mapping[int, Tensor]:
        width, size = max(map(len, rows.values())), self._build.rows
        self._slots = list(rows)
        ids, starts = torch.zeros(size, width, dtype=torch.long), torch.zeros(size, dtype=torch.int32)
        for place in range(size):
            tokens = rows[self._slots[min(place, len(rows) - 1)]]  # rows too many are copies of the last
            starts[place] = width - len(tokens)
            ids[place, width - len(tokens) :] = torch.tensor(tokens)
        self._starts, self._at = starts, width
        self._model.reset()
        return self._scores(self._model(ids, torch.arange(width, dtype=torch.int32), starts))

    def step(self, rows: Mapping[int, tuple[int, int]]) -> Mapping[int, Tensor]:
        ids = torch.zeros(len(self._starts), 1, dtype=torch.long)
        for place, slot in enumerate(self._slots):
            if slot in rows:
                ids[place, 0] = rows[slot][0]
        at = torch.tensor([self._at], dtype=torch.int32)
        self._at += 1
        return self._scores(self._model(ids, at, self._starts))

    @property
    def room(self) -> int:
        return self._build.longest - self._at

    def _scores(self, logits: Tensor) -> Mapping[int, Tensor]:
        return {slot: logits[place].float() for place, slot in enumerate(self._slots)}


class TransformersSlots:
    """Transformers NeuronX with continuous batching: `start_ids` are the slots, `cache_ids` the rows' own places."""

    def __init__(self, place: Path, build: Build) -> None:
        self._build = build
        self._model = _transformers_model(place, build)

    def prepare(self, artifact: Path | None) -> None:
        if artifact is not None:
            self._model.load(str(artifact))
        self._model.to_neuron()

    def save(self, target: Path) -> None:
        self._model.save(str(target))

    def read(self, rows: Mapping[int, Sequence[int]]) -> Mapping[int, Tensor]:
        scores = {}
        for slot, tokens in rows.items():
            places = torch.arange(len(tokens), dtype=torch.int32).unsqueeze(0)
            logits = self._model(torch.tensor([list(tokens)]), places, torch.tensor([slot], dtype=torch.int32))
            scores[slot] = logits[0].float()
        return scores

    def step(self, rows: Mapping[int, tuple[int, int]]) -> Mapping[int, Tensor]:
        ids = torch.tensor([[token] for token, _ in rows.values()])
        places = torch.tensor([[place] for _, place in rows.values()], dtype=torch.int32)
        logits = self._model(ids, places, torch.tensor(list(rows), dtype=torch.int32))
        return {slot: logits[number].float() for number, slot in enumerate(rows)}

    @property
    def room(self) -> int:
        return self._build.longest


class DistributedInference:
    """NxD Inference with continuous batching, and the next token chosen on the host."""

    def __init__(self, place: Path, build: Build, scratch: Path) -> None:
        self._build, self._scratch = build, scratch
        self._compiled: Path | None = None
        root = "neuronx_distributed_inference"
        module, prefix = _MODULES[build.family]
        classes = importlib.import_module(f"{root}.models.{module}")
        configs = importlib.import_module(f"{root}.models.config")
        kind = configs.MoENeuronConfig if build.family == "mixtral" else configs.NeuronConfig
        neuron = kind(
            tp_degree=build.degree,
            batch_size=build.rows,
            max_batch_size=build.rows,
            ctx_batch_size=1,
            tkg_batch_size=build.rows,
            is_continuous_batching=True,
            seq_len=build.longest,
            max_context_length=build.prompts[-1],
            torch_dtype=_TORCH[build.dtype],
            enable_bucketing=True,
            context_encoding_buckets=list(build.prompts),
            token_generation_buckets=list(build.lengths),
            fused_qkv=dict(build.settings).get("fuse_qkv") == "true",
        )
        adapter = importlib.import_module(f"{root}.utils.hf_adapter")
        config = getattr(classes, f"{prefix}InferenceConfig")(
            neuron, load_config=adapter.load_pretrained_config(str(place))
        )
        self._model = getattr(classes, f"Neuron{prefix}ForCausalLM")(str(place), config)

    def prepare(self, artifact: Path | None) -> None:
        if artifact is None:
            artifact = self._scratch / "neuron-compiled"  # of the server, whose copies start again and may be several
            if not artifact.is_dir():
                making = Path(tempfile.mkdtemp(prefix="neuron-compiling-", dir=self._scratch))
                self.save(making)
                with suppress(OSError):  # another copy was first
                    making.rename(artifact)
        self._model.load(f"{artifact}/")

    def save(self, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        self._model.compile(f"{target}/")  # the slash: some versions put a file's name right behind it

    def read(self, rows: Mapping[int, Sequence[int]]) -> Mapping[int, Tensor]:
        return {
            slot: self._forward(torch.tensor([list(tokens)]), torch.arange(len(tokens)).unsqueeze(0), [slot])[0]
            for slot, tokens in rows.items()
        }

    def step(self, rows: Mapping[int, tuple[int, int]]) -> Mapping[int, Tensor]:
        ids = torch.tensor([[token] for token, _ in rows.values()])
        places = torch.tensor([[place] for _, place in rows.values()])
        scores = self._forward(ids, places, list(rows))
        return {slot: scores[number] for number, slot in enumerate(rows)}

    @property
    def room(self) -> int:
        return self._build.longest

    def _forward(self, ids: Tensor, places: Tensor, slots: Sequence[int]) -> Tensor:
        output = self._model(input_ids=ids, position_ids=places, seq_ids=torch.tensor(slots))
        logits: Tensor = output.logits[:, -1, :]
        return logits.float()


def _transformers_model(place: Path, build: Build) -> Any:
    """Not on the device yet. An argument that its class does not have is an error, so each gets only its own."""
    library, configs = (importlib.import_module(f"transformers_neuronx{each}") for each in ("", ".config"))
    limits, settings = build.limits, {name: _value(text) for name, text in build.settings}
    if limits.continuous:
        settings["continuous_batching"] = configs.ContinuousBatchingConfig(batch_size_for_shared_caches=build.rows)
    if build.quantize != "none":
        settings["quant"] = configs.QuantizationConfig(quant_dtype="s8", dequant_dtype=AMPS[build.dtype])
    given: dict[str, Any] = {
        "batch_size": build.rows,
        "n_positions": list(build.lengths) if limits.lists else build.longest,
        "tp_degree": build.degree,
        "amp": AMPS[build.dtype],
    }
    if settings:
        given["neuron_config"] = configs.NeuronConfig(**settings)
    if build.prompts:
        given["context_length_estimate"] = list(build.prompts) if limits.lists else build.prompts[-1]
    if build.unroll is not None:
        given["unroll"] = build.unroll
    return library.NeuronAutoModelForCausalLM.from_pretrained(str(place), **given)


def _value(text: str) -> bool | str:
    return text == "true" if text in ("true", "false") else text
