"""What requests leave to the model, out of its options and files. Not the options themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

from heavylift_runtime.options import Options
from heavylift_runtime.server.schemas import Defaults
from heavylift_runtime.server.templates import prompts_of, reader


def defaults_of(name: str, folder: Path, options: Options) -> Defaults:
    """The schemas' defaults of one model; raises OptionsError where a template is wrong.

    Templates are read from the model folder, and from `option.model_id` where that is a folder, too.
    """
    place = None if options.model_id is None or "://" in options.model_id else (folder / options.model_id).resolve()
    return Defaults(
        max_new_tokens=options.max_new_tokens,
        model=name,
        lmi_compat=cast(Literal["none", "0.23", "latest"], options.lmi_compat),
        tgi_compat=options.tgi_compat,
        output_formatter="sse" if options.output_formatter == "sse" else "jsonlines",
        fastertransformer=options.engine == "fastertransformer",
        prompts=prompts_of(options.properties, reader(folder, *(() if place is None else (place,)))),
    )
