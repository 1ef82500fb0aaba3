"""A Hugging Face checkpoint opened by transformers, for the engines over it. Not the native loader, and no engine.

Its task is `option.task`, else what config.json's `architectures` says, as in LMI's huggingface handler.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from heavylift_runtime.engines.cores import stored, threads
from heavylift_runtime.engines.download import fetch
from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.engines.tasks import GENERATING, TASKS, task_named
from heavylift_runtime.errors import LoadError, RuntimeFault
from heavylift_runtime.options import Options

_DTYPES = {"auto": "auto", "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Pretrained:
    """Where a checkpoint is, how it is to be opened, and what for."""

    def __init__(self, options: Options, model_dir: Path, scratch: Path, report: Callable[[str], None]) -> None:
        """Fetches weights from S3; raises LoadError."""
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # stderr is a log
        self._scratch, self._properties = scratch, options.properties
        self.dtype = _DTYPES[options.dtype]
        self.place = _place(options.model_id, model_dir, scratch, report)
        with _as_load_error(self.place):
            self.config = transformers.AutoConfig.from_pretrained(self.place, **self._common())
        asked = options.properties.get("task")
        self.task = task_named(asked, getattr(self.config, "architectures", None) or ())
        about = getattr(self.config, "task_specific_params", None) or {}
        self.prefix = str(about.get(asked or self.task, {}).get("prefix", ""))

    @classmethod
    def writing(
        cls, options: Options, model_dir: Path, world: int, rendezvous: str, report: Callable[[str], None]
    ) -> Pretrained:
        """One that generates text, on this rank's share of the cores; LoadError for any other."""
        found = cls(options, model_dir, Path(rendezvous.removeprefix("file://")).parent, report)
        if found.task not in GENERATING:
            raise LoadError(f"the model's task is {found.task}, which generates no text: set option.task")
        if (count := threads(world * options.workers, stored(found.place) // world)) is not None:
            torch.set_num_threads(count)
        return found

    def model(self, *, on_host: bool = False) -> Any:
        """The model of the task, on its devices or `on_host`, ready to compute; raises LoadError."""
        owner = getattr(transformers, TASKS[self.task])
        settings = self._common() | {"dtype": self.dtype} | self._placement()
        with _as_load_error(self.place):
            model = owner.from_pretrained(self.place, **settings)
            if "device_map" not in settings and torch.cuda.is_available() and not on_host:
                model = model.to("cuda")
        return model.eval()

    def check_split(self, world: int) -> None:
        """LoadError where transformers cannot divide each layer over so many ranks; before the ranks meet."""
        kind, text = self.config.model_type, self.config.get_text_config()
        has = ENGINES["accelerate"].split_families
        if "device_map" in self._properties:
            raise LoadError(
                f"option.device_map places layers from one process, option.tensor_parallel_degree={world} divides "
                "each over ranks: set one of them"
            )
        if kind not in has:
            raise LoadError(
                f"transformers was not seen to divide model_type {kind!r} over ranks, but {', '.join(has)}: set "
                "option.tensor_parallel_degree=1, with option.device_map=auto for several devices"
            )
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        if heads % world:
            raise LoadError(
                f"option.tensor_parallel_degree={world} must divide the model's {heads} heads of keys, of which each "
                "rank has as many"
            )

    def split(self, rank: int, world: int) -> Any:
        """This rank's part of the model, by its own plan in transformers, which meets the others in torch's group."""
        os.environ.setdefault("LOCAL_RANK", str(rank))
        from transformers.distributed.configuration_utils import DistributedConfig

        owner = getattr(transformers, TASKS[self.task])
        settings = self._common() | {"dtype": self.dtype}
        with _as_load_error(self.place):
            over = DistributedConfig(tp_size=world)
            return owner.from_pretrained(self.place, distributed_config=over, **settings).eval()

    def skeleton(self, dtype: torch.dtype) -> Any:
        """The model of the task with shapes and no weights (torch's meta device); raises LoadError."""
        owner = getattr(transformers, TASKS[self.task])
        trust = self._common()["trust_remote_code"]
        with _as_load_error(self.place), torch.device("meta"):
            return owner.from_config(self.config, dtype=dtype, trust_remote_code=trust).eval()

    def tokenizer(self) -> Any:
        """Its tokenizer, for the languages that `option.src_lang` and `option.tgt_lang` name; raises LoadError."""
        side = {"padding_side": "left"} if self.task in GENERATING and not self.config.is_encoder_decoder else {}
        with _as_load_error(self.place):
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.place, **self._common(), **side)
        for name in ("src_lang", "tgt_lang"):
            if name in self._properties:
                setattr(tokenizer, name, self._properties[name])
        return tokenizer

    def forced_start(self, tokenizer: Any) -> int | None:
        """The token with which every answer begins in the language of `option.tgt_lang`; LoadError for no language."""
        language = self._properties.get("tgt_lang")
        if language is None:
            return None
        known = getattr(tokenizer, "lang_code_to_token", None)  # M2M100 writes its languages as __de__
        token = language if known is None else known.get(language, language)
        found = tokenizer.convert_tokens_to_ids(token)
        if not isinstance(found, int) or found == tokenizer.unk_token_id:
            raise LoadError(f"option.tgt_lang={language} is no language of the model's tokenizer")
        return found

    @property
    def positions(self) -> int | None:
        """The most tokens of a text that the model has positions for; None where it has no such limit."""
        found = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        return found if isinstance(found, int) and found > 0 else None

    def _common(self) -> dict[str, Any]:
        revision = {"revision": self._properties["revision"]} if "revision" in self._properties else {}
        return revision | {"trust_remote_code": self._properties.get("trust_remote_code", "false").lower() == "true"}

    def _placement(self) -> dict[str, Any]:
        """`option.device_map`: a word or a JSON object, for accelerate; what has no room goes to the scratch folder."""
        given = self._properties.get("device_map")
        if given is None:
            return {}
        if importlib.util.find_spec("accelerate") is None:
            raise LoadError("option.device_map needs the package accelerate: install heavylift's extra 'accelerate'")
        settings: dict[str, Any] = {"device_map": _json_or_word("device_map", given)}
        if "max_memory" in self._properties:
            most = _json_or_word("max_memory", self._properties["max_memory"])
            if not isinstance(most, Mapping):
                raise LoadError(f'option.max_memory must be JSON like {{"0": "20GB", "cpu": "60GB"}}: got {most!r}')
            settings["max_memory"] = {int(key) if key.isdigit() else key: value for key, value in most.items()}
        return settings | {"offload_folder": str(self._scratch / "offload")}


def _place(model_id: str | None, model_dir: Path, scratch: Path, report: Callable[[str], None]) -> str:
    """A folder, or the id of a model of the hub, which transformers then fetches."""
    if model_id is None:
        return str(model_dir)
    if model_id.startswith("s3://"):
        return str(fetch(model_id, scratch, report))
    folder = model_dir / model_id
    return str(folder) if folder.is_dir() else model_id


def _json_or_word(name: str, text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise LoadError(f"option.{name} must be a word or JSON: {error}") from error


class _as_load_error:
    """What transformers raises on a checkpoint becomes a LoadError; memory that ran out stays as it is."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, RuntimeFault | MemoryError | torch.OutOfMemoryError):
            raise LoadError(f"transformers cannot open {self._place}: {type(error).__name__}: {error}") from error
