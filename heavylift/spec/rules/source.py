"""What is served, and by which engine: the file's name, the source, the code, the engine and its options."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from heavylift.plan import facts
from heavylift.plan.images import hardware_of
from heavylift.spec.fault import Fault, Path, dotted, shown
from heavylift.spec.rules.read import Data, Rule, named, part, rows, whole
from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.keys import KEYS, known_keys
from heavylift_runtime.readings import BadValue

SOURCES = ("path", "s3", "id")
MOST_STAGES = 64  # beyond it, the field itself refuses
OWN_OPTIONS = {
    "dtype": "dtype",
    "quantize": "quantization",
    "tensor_parallel_degree": "tensor_parallel_degree",
    "pipeline_parallel_degree": "pipeline_parallel_degree",
    "model_id": "model",
    "entryPoint": "code",
    "engine": "engine",
    "env": "environment",
}


def named_as_file(data: Data, stem: str, env: str | None) -> Iterator[Fault]:
    """So that no two files of a folder can name the same endpoint, and none the foundation's stack."""
    name = data.get("name")
    if name == "foundation":
        yield Fault(("name",), "'name' must not be 'foundation': all models share the stack of that name")
    allowed = [stem] if env is None else [stem, f"{stem}-{env}"]
    if isinstance(name, str) and name not in allowed:
        yield Fault(("name",), f"'name' must be the file's: {' or '.join(map(shown, allowed))}; got {shown(name)}")


def one_source(data: Data) -> Iterator[Fault]:
    """Exactly one of path, s3 and id; a revision where, and only where, there is an id."""
    model = data.get("model")
    if not isinstance(model, dict):
        return
    named = [key for key in SOURCES if model.get(key) is not None]
    if len(named) != 1:
        got = " and ".join(f"'{key}'" for key in named) if named else "none"
        yield Fault(("model",), f"'model' needs exactly one of 'path', 's3' and 'id'; got {got}")
    if model.get("id") is not None and model.get("revision") is None:
        yield Fault(("model", "id"), "'model.id' needs 'model.revision', the commit to pin: 40 hexadecimal digits")
    if model.get("id") is None and model.get("revision") is not None:
        yield Fault(("model", "revision"), "'model.revision' belongs to 'model.id' only", at_key=True)


def code_and_script(data: Data) -> Iterator[Fault]:
    """A code folder is what the script engine runs."""
    name, code = data.get("engine", "auto"), data.get("code")
    if code is not None and name not in ("auto", "script"):
        yield Fault(("code",), f"'code' needs engine: script; got engine: {shown(name)}", at_key=True)
    if code is None and name == "script":
        yield Fault(("engine",), "engine: script needs 'code', the folder with model.py")


def engine(data: Data) -> Iterator[Fault]:
    """The registry knows more engines, quantizations and degrees than this version has."""
    row = ENGINES.get(named(data, "engine"))
    if row is not None and row.why_not is not None:
        yield Fault(("engine",), f"engine: {row.name} cannot run: {row.why_not}")
        return
    fact = facts.instances().get(named(data, "instance_type"))
    container = named(part(data, "image", "dlc"), "framework") or None
    if row is not None and fact is not None and fact.hardware not in hardware_of(row, container):
        allowed = " or ".join(hardware_of(row, container))
        whose = f"engine {row.name}" if container is None else f"AWS's {container} container"
        yield Fault(
            ("instance_type",), f"'instance_type' of {whose} is one with {allowed}; {fact.type} is {fact.hardware}"
        )
    able = [each for each in ENGINES.values() if each.available] if row is None else [row]
    asked = named(data, "quantization")
    forms = list(dict.fromkeys(name for each in able for name in each.quantizations))
    known = any(asked in each.quantizations for each in ENGINES.values())
    if known and asked not in forms:
        whose = "any engine of this version" if row is None else f"engine {row.name}"
        yield Fault(("quantization",), f"'quantization' of {whose} is {' or '.join(forms)}; got {shown(asked)}")
    stages = whole(data.get("pipeline_parallel_degree"))
    if (
        stages is not None
        and 1 < stages <= MOST_STAGES
        and (why := _refused("option.pipeline_parallel_degree", str(stages)))
    ):
        yield Fault(("pipeline_parallel_degree",), f"'pipeline_parallel_degree' must be {why}; got {stages}")


def _refused(key: str, value: str) -> str | None:
    """What the runtime takes for a key, where it would refuse the value."""
    try:
        KEYS[key].read(value)
    except BadValue as error:
        return str(error)
    return None


def options(data: Data) -> Iterator[Fault]:
    """Options add keys that the engine knows, in a variant, too; those of other fields, and line breaks, are refused.

    Some engines are handed every option; without an engine, those of all engines are taken.
    """
    yield from _options(data, part(data, "options"), ("options",))
    yield from _options(data, part(data, "shadow", "options"), ("shadow", "options"))
    for place, row in enumerate(rows(data, "variants")):
        if isinstance(row, dict):
            yield from _options(data, part(row, "options"), ("variants", place, "options"))


def _options(data: Data, given: Data, at: Path) -> Iterator[Fault]:
    row = ENGINES.get(named(data, "engine"))
    engines = [row.name] if row is not None else [each.name for each in ENGINES.values() if each.available]
    free = (row is not None and (row.passes_through or not row.available)) or data.get("code") is not None
    known = sorted({key.removeprefix("option.") for each in engines for key in known_keys(each) if "option." in key})
    known = [key for key in known if key not in OWN_OPTIONS]
    for key, value in given.items():
        path = (*at, key)
        if field := OWN_OPTIONS.get(key.removeprefix("option.")):
            yield Fault(path, f"'{dotted(path)}' is set by '{field}'; write it there", at_key=True)
        elif not key.isidentifier() or not key.isascii():
            yield Fault(
                path, f"{shown(key)} is not an option's name: letters, digits and '_', without 'option.'", at_key=True
            )
        elif key not in known and not free:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it knows {', '.join(known)}"
            whose = "any engine of this version" if row is None else f"engine {row.name}"
            yield Fault(path, f"'{key}' is no option of {whose}; {hint}", at_key=True)
        if isinstance(value, str) and (value != value.strip() or not value or not value.isprintable()):
            yield Fault(
                path, f"'{dotted(path)}' must be printable text in one line, without blanks around; got {shown(value)}"
            )
        elif f"option.{key}" in KEYS and (why := _refused(f"option.{key}", _written(value))):
            yield Fault(path, f"'{dotted(path)}' must be {why}; got {shown(value)}")


def _written(value: Any) -> str:
    """As serving.properties has it."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


RULES: tuple[Rule, ...] = (one_source, code_and_script, engine, options)
