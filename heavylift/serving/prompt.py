"""The templates and examples of a model file: which files of the container's folder they are, and which options.

Not their rendering: the runtime does that, in a sandbox (heavylift_runtime.server.prompts).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from jinja2 import Environment, TemplateSyntaxError, nodes

from heavylift.errors import InputError
from heavylift.spec.container import PromptSpec

CHAT, TEXT, EXAMPLES = "prompt/chat.jinja", "prompt/text.jinja", "prompt/examples.jsonl"
SAYS = {CHAT: "messages", TEXT: "prompt"}
"""Without it, a template gives every request the same prompt."""
LARGEST = 1 << 20  # bytes of a template: the runtime takes no more
FEW_SHOT = (
    "{% for example in examples %}Input: {{ example.input }}\nOutput: {{ example.output }}\n\n{% endfor %}"
    "Input: {{ prompt }}\nOutput:"
)
"""Around a text where the file has examples and no template of its own."""
GENERATION = re.compile(r"{%-?\s*(end)?generation\s*-?%}")  # transformers' own tag, which Jinja does not know


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
    named = {} if prompt is None else {CHAT: prompt.chat_template, TEXT: prompt.template}
    for path, name in named.items():
        if name is None:
            continue
        try:
            files[path] = _template(spec_dir / name, spec_dir, SAYS[path])
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return files


def _template(file: Path, spec_dir: Path, says: str) -> bytes:
    if not file.resolve().is_relative_to(spec_dir.resolve()):
        raise InputError(f"the template {file} leads out of {spec_dir}; put the file itself there")
    try:
        content = file.read_bytes()
        if len(content) > LARGEST:
            raise InputError(f"the template {file} has {len(content)} bytes; at most {LARGEST}")
        parsed = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(GENERATION.sub("", content.decode()))
        if all(each.name != says for each in parsed.find_all(nodes.Name)):
            raise InputError(f"the template {file} never says '{says}': every request would become the same text")
    except OSError as error:
        raise InputError(f"cannot read the template {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the template {file} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except TemplateSyntaxError as error:
        raise InputError(f"{file}:{error.lineno}: not Jinja: {error.message}") from error
    return content
