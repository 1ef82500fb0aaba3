"""A Jinja template that a model file names: read, and proved to be one, before anything is planned or sent.

Not its rendering: the runtime does that, in a sandbox (heavylift_runtime.server.sandbox).
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from heavylift.errors import InputError

SAYS = {"chat_template": "messages", "template": "prompt"}
"""By the field of `prompt`: without this variable, a template gives every request the same prompt."""
LARGEST = 1 << 20  # bytes of a template: the runtime takes no more
LEFT_OUT = frozenset(
    "batch center format pprint random slice urlencode urlize wordwrap xmlattr".split()
)  # Jinja's filters that the container's sandbox does not have
GENERATION = re.compile(r"{%-?\s*(end)?generation\s*-?%}")  # transformers' own tag, which Jinja does not know


def read_template(file: Path, folder: Path, says: str) -> bytes:
    """Its content. Raises InputError with every reason why it cannot be used: it leads out of the folder, cannot be
    read, is no Jinja, asks for filters that are not there, or never `says` what it is given."""
    from jinja2 import Environment, TemplateSyntaxError, nodes  # few model files have templates

    if not file.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"the template {file} leads out of {folder}; put the file itself there")
    try:
        content = file.read_bytes()
        if len(content) > LARGEST:
            raise InputError(f"the template {file} has {len(content)} bytes; at most {LARGEST}")
        environment = Environment(extensions=["jinja2.ext.loopcontrols"])
        parsed = environment.parse(GENERATION.sub("", content.decode()))
    except OSError as error:
        raise InputError(f"cannot read the template {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the template {file} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except TemplateSyntaxError as error:
        raise InputError(f"{file}:{error.lineno}: not Jinja: {error.message}") from error
    except RecursionError as error:
        raise InputError(f"the template {file} is nested too deeply") from error
    faults = []
    for kind, known in ((nodes.Filter, environment.filters.keys() - LEFT_OUT), (nodes.Test, environment.tests.keys())):
        for each in parsed.find_all(kind):
            if each.name not in known:
                what = f"no {kind.__name__.lower()} '{each.name}'"
                near = difflib.get_close_matches(each.name, known, n=1)
                faults.append(f"{file}:{each.lineno}: {what}" + (f"; did you mean '{near[0]}'?" if near else ""))
    if all(each.name != says for each in parsed.find_all(nodes.Name)):
        faults.append(f"the template {file} never says '{says}': every request would become the same text")
    if faults:
        raise InputError(faults)
    return content
