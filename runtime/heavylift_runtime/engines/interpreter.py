"""The Python that runs a model's ranks: this one, or that of an environment of the engine's own. Not the server's.

An engine that pins other packages than ours has its own: `.venv-<engine>` in the folder that $HEAVYLIFT_ENVIRONMENTS
names, which the embedded AWS sets to the checkout. `option.pythonExecutable` (LMI's) names any other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import heavylift_runtime
from heavylift_runtime.engines.registry import ENGINES, Capabilities
from heavylift_runtime.options import Options

VARIABLE = "HEAVYLIFT_ENVIRONMENTS"


def own_environment(row: Capabilities, folder: Path) -> Path | None:
    """The interpreter of the engine's own environment in a folder, where it was made to the end."""
    home = folder / f".venv-{row.name}"
    return home / "bin" / "python" if (home / "installed").is_file() else None


def interpreter_of(options: Options, environ: Mapping[str, str]) -> str:
    """The program; the rank that it starts says what is missing in it."""
    if (given := options.properties.get("pythonExecutable")) is not None:
        return given
    row = ENGINES[options.engine]
    if row.missing() is not None and VARIABLE in environ:
        own = own_environment(row, Path(environ[VARIABLE]))
        if own is not None:
            return str(own)
    return sys.executable


def environment_of(interpreter: str, environ: Mapping[str, str]) -> Mapping[str, str]:
    """`environ`, in which another interpreter than this one finds the runtime."""
    if interpreter == sys.executable:
        return environ
    root = str(Path(heavylift_runtime.__file__).parent.parent)
    return {**environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, environ.get("PYTHONPATH")]))}
