"""What requests leave to the model, out of its options and files. Not the options themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heavylift_runtime.options import Options
from heavylift_runtime.server.schemas import Defaults
from heavylift_runtime.server.schemas.fastertransformer import MAX_SEQ_LEN
from heavylift_runtime.server.templates import prompts_of, reader


def defaults_of(name: str, folder: Path, options: Options) -> Defaults:
    """The schemas' defaults of one model; OptionsError where its templates are wrong.

    The server reads nothing from S3: of weights that lie there, chat_template.jinja and tokenizer_config.json count
    where the model folder has them, beside serving.properties.
    """
    place = options.model_id
    folders = [folder] if place is None or "://" in place else [folder, Path(place)]
    of_ft = options.engine == "fastertransformer"
    compat: Any = options.lmi_compat  # keys.py allows Defaults' own three words
    return Defaults(
        max_new_tokens=MAX_SEQ_LEN if of_ft and "max_new_tokens" not in options.properties else options.max_new_tokens,
        model=name,
        lmi_compat=compat,
        tgi_compat=options.tgi_compat,
        output_formatter="sse" if options.output_formatter == "sse" else "jsonlines",
        fastertransformer=of_ft,
        prompts=prompts_of(options.properties, reader(*folders)),
    )
