"""What requests leave to the model, out of its options and files. Not the options themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.options import Options
from heavylift_runtime.server.prompts import Templates
from heavylift_runtime.server.schemas import Defaults
from heavylift_runtime.server.schemas.fastertransformer import MAX_SEQ_LEN
from heavylift_runtime.server.templates import AwaitedPrompts, Read, chained, manner_of, prompts_of, reader

Told = Callable[[], Mapping[str, str]]


def defaults_of(name: str, folder: Path, options: Options, told: Told = dict) -> Defaults:
    """The schemas' defaults of one model; OptionsError where its templates are wrong.

    The server reads nothing from S3 or the hub: of weights that lie there, `told` gives the files
    (engines/prompt_files.py), once the model has loaded.
    """
    place = options.model_id
    prompts: Templates
    read: Read

    def later(file: str) -> str | None:
        return chained(own, told().get)(file)

    if options.elsewhere(folder):
        own, read = reader(folder), later
        prompts = AwaitedPrompts(lambda: prompts_of(options.properties, read))
    else:
        read = reader(*([folder] if place is None else [folder, folder / place]))
        prompts = prompts_of(options.properties, read)
        manner_of(options.properties, options.engine, read)  # a wrong one is told at the start
    of_ft = options.engine == "fastertransformer"
    compat: Any = options.lmi_compat  # keys.py allows Defaults' own three words
    return Defaults(
        max_new_tokens=MAX_SEQ_LEN if of_ft and "max_new_tokens" not in options.properties else options.max_new_tokens,
        model=name,
        lmi_compat=compat,
        tgi_compat=options.tgi_compat,
        output_formatter="sse" if options.output_formatter == "sse" else "jsonlines",
        fastertransformer=of_ft,
        structured=ENGINES[options.engine].structured,
        prompts=prompts,
        manner=cache(lambda: manner_of(options.properties, options.engine, read)),
    )
