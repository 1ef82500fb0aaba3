"""How an engine and its keys may be spelled, by older versions of LMI and by other servers, and what they are here.

Not which values they take (keys.py), nor where they are written (properties.py, environment.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from heavylift_runtime.engines.registry import ENGINES, capabilities, engine_of
from heavylift_runtime.engines.tasks import GENERATING, TASKS
from heavylift_runtime.environment import OF_JAVA, foreign
from heavylift_runtime.keys import ALIASES, known_keys

ENGINE_OF_ROLLING = {"lmi-dist": "vllm", "vllm": "vllm", "tnx": "neuronx", "trtllm": "trtllm"}


def engine_meant(values: Mapping[str, str]) -> str:
    """The registry's name; raises OptionsError for a spelling of none."""
    entry_point = values.get("option.entryPoint")
    rolling = ENGINE_OF_ROLLING.get(values.get("option.rolling_batch", "auto"))
    spelling = values.get("engine", "native" if entry_point is None and rolling is None else "Python")
    if spelling.lower() in ("python", "mpi") and entry_point is None and rolling is not None:
        return capabilities(rolling).name  # in LMI the rolling batch names the engine
    name = engine_of(spelling, entry_point).name
    if name == "accelerate" and values.get("option.task", GENERATING[0]) in TASKS.keys() - set(GENERATING):
        return "script"  # answers that are no tokens are a handler's own (djl_python/huggingface.py)
    return name


def renamed_keys(values: Mapping[str, str], engine: str, faults: list[str], warnings: list[str]) -> dict[str, str]:
    """The values under the names of today; for a user's script, which may ask for them by the old ones, under both."""
    renamed: dict[str, str] = {}
    users = is_users(engine, values.get("option.entryPoint"))
    for name, text in values.items():
        if name == "option.load_in_8bit" and not users:
            warnings.append(f"{name} is an old name: write option.quantize=int8")
            if text.lower() != "true":
                continue
            name, text = "option.quantize", "int8"
        today = ALIASES.get(name, name)
        if today is not name:
            warnings.append(f"{name} is an old name: write {today}")
            if users and name.startswith("option."):
                renamed[name] = text
        other = renamed.setdefault(today, text)
        if other != text:
            faults.append(f"{today} and its old name must be the same: got {other!r} and {text!r}")
    return renamed


def leave_out(
    values: dict[str, str],
    written: Mapping[str, str],
    environ: Mapping[str, str],
    engine: str,
    warnings: list[str],
) -> None:
    """Take out what is about another server: LMI's Java one, or one whose variables this engine has no use for."""
    for name in sorted(OF_JAVA & values.keys()):
        del values[name]
        warnings.append(f"{name} means nothing here: it is not read")
    known = known_keys(engine)
    for key, variable in foreign(environ).items():
        if key in values and key not in written and key not in known and not ENGINES[engine].passes_through:
            del values[key]
            warnings.append(f"{variable} means {key}, which engine {engine} does not have: it is not read")


def is_users(engine: str, entry_point: str | None) -> bool:
    """Whether the model is a script of the user's own, not one that comes with the runtime."""
    return engine == "script" and not (entry_point or "").startswith("djl_python.")
