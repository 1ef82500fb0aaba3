"""The entry point that a model's folder stands for where nothing names one. Not which engine that is: spellings.py.

In LMI's order (deepjavalibrary/djl-serving, PyModel): the folder's model.py, the handler of a TorchServe archive, else
the handler that needs no code. That one is transformers', `rolling_batch=auto` too; LMI's image for NeuronCores has
another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from heavylift_runtime.engines.devices import neuron
from heavylift_runtime.engines.registry import engine_of
from heavylift_runtime.engines.tasks import GENERATING, TASKS
from heavylift_runtime.environment import merged
from heavylift_runtime.errors import OptionsError
from heavylift_runtime.spellings import ENGINE_OF_ROLLING, rolled

_MANIFEST = Path("MAR-INF", "MANIFEST.json")  # of a TorchServe archive
_SCRIPTED = ("python", "mpi", "deepspeed", "fastertransformer")  # `engine=` of LMI under which a model.py may run
_FORMATTER = re.compile(rb"^@(?:\w+\.)*(?:in|out)put_formatter\b", re.MULTILINE)


def completed(written: Mapping[str, str], environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The file's keys, and the entry point that its folder stands for; OptionsError for an archive with no handler."""
    values, script = merged(written, environ), folder / "model.py"
    given = values.get("engine", "Python")
    found = dict(written)
    if "option.entryPoint" not in values:
        if script.is_file() and given.lower() in _SCRIPTED:
            found = {"engine": given, "option.entryPoint": "model.py"} | found
        elif (folder / _MANIFEST).is_file():
            found = {"engine": "Python", "option.entryPoint": _archived(folder / _MANIFEST)} | found
        elif _needs_no_code(values, folder):
            found |= {"option.entryPoint": f"djl_python.{'transformers_neuronx' if neuron() else 'huggingface'}"}
    entry_point = values.get("option.entryPoint", "")
    if entry_point.startswith("djl_python.") and _formats(script):
        found = _formatted(found, entry_point)
    return found


def _needs_no_code(values: Mapping[str, str], folder: Path) -> bool:
    """LMI's Python with a checkpoint and without a script; or a task, of a model that writes no text."""
    if rolled(values) is not None or not ("option.model_id" in values or (folder / "config.json").is_file()):
        return False
    if "engine" in values:
        return values["engine"].lower() in ("python", "mpi")
    return values.get("option.task") in TASKS.keys() - set(GENERATING)


def _archived(manifest: Path) -> str:
    """The file of the handler in a TorchServe archive; OptionsError where the manifest names none."""
    try:
        name = json.loads(manifest.read_bytes())["model"]["handler"].partition(":")[0]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise OptionsError(f"{manifest} names no handler: it needs model.handler, a .py file of the folder") from error
    return str(name if name.endswith(".py") else f"{name}.py")


def _formats(script: Path) -> bool:
    """It has formatters for the requests and answers of a no-code engine, as LMI looks for them beside one."""
    return script.is_file() and _FORMATTER.search(script.read_bytes()) is not None


def _formatted(written: Mapping[str, str], entry_point: str) -> dict[str, str]:
    """The script in the entry point's place, and its engine named as a script's formatters are answered by it."""
    row = engine_of("Python", entry_point)
    rolling = [word for word, name in ENGINE_OF_ROLLING.items() if name == row.name][-1:]
    by_rolling = row.engine_property == "Python" and bool(rolling)
    named = {"option.rolling_batch": rolling[0]} if by_rolling else {"engine": row.engine_property}
    return {**written, **named, "option.entryPoint": "model.py"}
