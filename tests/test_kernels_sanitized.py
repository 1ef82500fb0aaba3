"""The kernels under gcc's address and undefined-behaviour sanitizers, on odd shapes and on any bits at all."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from heavylift_runtime.native.kernels import library

HERE = Path(__file__).parent
WATCHED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def why_not(folder: Path) -> str | None:
    """Why nothing can be watched here, or None: a small gcc lacks libasan, a container may forbid what it does."""
    if (why := library.why()) is not None:
        return f"no kernels on this machine: {why}"
    if (gcc := shutil.which("gcc")) is None:
        return "no gcc on this machine: the kernels were brought"
    program = folder / "nothing"
    for command in ([gcc, *WATCHED, "-x", "c", "-", "-o", str(program)], [str(program)]):
        done = subprocess.run(command, input="int main(void) { return 0; }", capture_output=True, text=True)
        if done.returncode != 0:
            return f"gcc's sanitizers do not run here: {done.stderr[-300:]}"
    return None


@pytest.mark.slow
def test_no_kernel_touches_what_is_not_its_own(tmp_path: Path) -> None:
    if (why := why_not(tmp_path)) is not None:
        pytest.skip(why)
    flags = [flag for flag in library.FLAGS if flag not in ("-shared", "-fPIC", "-O2")]
    flags += library.TILES if library.in_tiles() else ()
    sources = [str(library.HERE / name) for name in library.SOURCES if name.endswith(".c")]
    program = tmp_path / "sanitized"
    command = [
        "gcc",
        *WATCHED,
        f"-I{library.HERE}",
        *flags,
        str(HERE / "kernels_sanitized.c"),
        *sources,
        "-o",
        str(program),
        "-lm",
    ]

    subprocess.run(command, check=True, timeout=300)
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([program], capture_output=True, text=True, timeout=300, env=environment)

    assert (done.returncode, done.stderr, done.stdout) == (0, "", "nothing outside was touched\n")
