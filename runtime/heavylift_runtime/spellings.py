"""How an engine and its keys may be spelled, by older versions of LMI and by other servers, and what they are here.

Not which values they take (keys.py), nor where they are written (properties.py, environment.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from heavylift_runtime.engines.devices import gpus
from heavylift_runtime.engines.registry import ENGINES, capabilities, engine_of
from heavylift_runtime.engines.tasks import GENERATING, TASKS
from heavylift_runtime.environment import OF_JAVA, foreign
from heavylift_runtime.keys import ALIASES, known_keys
from heavylift_runtime.readings import BadValue, whole

ENGINE_OF_ROLLING = {"lmi-dist": "vllm", "vllm": "vllm", "tnx": "neuronx", "trtllm": "trtllm", "deepspeed": "deepspeed"}
_WITHOUT_EFFECT = {"option.enable_venv": "the packages of a requirements.txt are of its model alone in any case"}


def rolled(values: Mapping[str, str]) -> str | None:
    """The engine that the rolling batch names."""
    return ENGINE_OF_ROLLING.get(values.get("option.rolling_batch", "auto"))


def engine_meant(values: Mapping[str, str]) -> str:
    """The registry's name; raises OptionsError for a spelling of none."""
    entry_point = values.get("option.entryPoint")
    rolling = rolled(values)
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
        # between a user's script and its libraries it is no batch of the server's
        today = name if users and name == "option.batch_size" else ALIASES.get(name, name)
        if today is not name:
            warnings.append(f"{name} is an old name: write {today}")
            if users and name.startswith("option."):
                renamed[name] = text
        other = renamed.setdefault(today, text)
        if other != text:
            faults.append(f"{today} and its old name must be the same: got {other!r} and {text!r}")
    return renamed


def number_of_copies(
    values: Mapping[str, str], environ: Mapping[str, str], faults: list[str], warnings: list[str]
) -> dict[str, str]:
    """The values with one number of copies, all of which are loaded from the start: LMI loads more of them on demand,
    up to maxWorkers. What is written for this machine's kind of device goes before what is for any."""
    found = dict(values)
    here, other, gpu = ("gpu", "cpu", "a") if gpus(environ) else ("cpu", "gpu", "no")
    for name in ("minWorkers", "maxWorkers"):
        if found.pop(f"{other}.{name}", None) is not None:
            warnings.append(f"{other}.{name} is not for this machine, which has {gpu} GPU: it is not read")
        if (own := found.pop(f"{here}.{name}", None)) is not None:
            found[name] = own
    try:
        low, high = (whole(1, 64)(found[name]) for name in ("minWorkers", "maxWorkers"))
    except (KeyError, BadValue):
        return found  # one is missing, or is no number: that is told by who reads it
    if low > high:
        faults.append(f"minWorkers must be at most maxWorkers: got {low} and {high}")
    elif low < high:
        warnings.append(f"minWorkers={low} is not read: all maxWorkers={high} copies are loaded from the start")
    del found["minWorkers"]
    return found


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
    for name in _WITHOUT_EFFECT.keys() & values.keys():
        del values[name]
        warnings.append(f"{name} means nothing here, {_WITHOUT_EFFECT[name]}: it is not read")
    known = known_keys(engine)
    for key, variable in foreign(environ).items():
        if key in values and key not in written and key not in known and not ENGINES[engine].passes_through:
            del values[key]
            warnings.append(f"{variable} means {key}, which engine {engine} does not have: it is not read")


def is_users(engine: str, entry_point: str | None) -> bool:
    """Whether the model is a script of the user's own, not one that comes with the runtime."""
    return engine == "script" and not (entry_point or "").startswith("djl_python.")
