"""The templates and examples of a model file: which files of the container's folder they are, and which options.

Not their rendering: the runtime does that, in a sandbox (heavylift_runtime.server.prompts).
"""

from __future__ import annotations

import json
from pathlib import Path

from heavylift.errors import InputError
from heavylift.spec.container import PromptSpec
from heavylift.spec.template import SAYS, read_template

CHAT, TEXT, EXAMPLES = "prompt/chat.jinja", "prompt/text.jinja", "prompt/examples.jsonl"
FILES = {"chat_template": CHAT, "template": TEXT}
"""By the field of `prompt`, where the container has the template."""
FEW_SHOT = (
    "{% for example in examples %}Input: {{ example.input }}\nOutput: {{ example.output }}\n\n{% endfor %}"
    "Input: {{ prompt }}\nOutput:"
)
"""Around a text where the file has examples and no template of its own."""


def prompt_options(prompt: PromptSpec | None) -> dict[str, str]:
    """`option.*` without that prefix."""
    if prompt is None:
        return {}
    told = {
        "chat_template": CHAT if prompt.chat_template is not None else None,
        "prompt_template": TEXT if prompt.template is not None or prompt.few_shot else None,
        "prompt_examples": EXAMPLES if prompt.few_shot else None,
    }
    return {key: path for key, path in told.items() if path is not None}


def made_prompt(prompt: PromptSpec | None) -> dict[str, bytes]:
    """Path → content of what the model file itself says."""
    if prompt is None or not prompt.few_shot:
        return {}
    lines = "".join(json.dumps(shot.model_dump(), ensure_ascii=False) + "\n" for shot in prompt.few_shot)
    files = {EXAMPLES: lines.encode()}
    return files if prompt.template is not None else {TEXT: FEW_SHOT.encode(), **files}


def read_prompt(prompt: PromptSpec | None, spec_dir: Path) -> dict[str, bytes]:
    """Path → content of the templates beside the model file. Raises InputError with every one that cannot be used."""
    files, faults = dict[str, bytes](), list[str]()
    for field, path in FILES.items():
        name = getattr(prompt, field, None)
        if name is None:
            continue
        try:
            files[path] = read_template(spec_dir / name, spec_dir, SAYS[field])
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return files
