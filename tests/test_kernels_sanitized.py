"""The kernels under gcc's address and undefined-behaviour sanitizers, on odd shapes and on any bits at all."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from heavylift_runtime.native.kernels import library

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(library.why() is not None, reason=f"no kernels on this machine: {library.why()}")
def test_no_kernel_touches_what_is_not_its_own(tmp_path: Path) -> None:
    flags = [flag for flag in library.FLAGS if flag not in ("-shared", "-fPIC", "-O2")]
    sources = [str(library.HERE / name) for name in library.SOURCES if name.endswith(".c")]
    program = tmp_path / "sanitized"
    watched = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{library.HERE}"]
    command = ["gcc", *watched, *flags, str(HERE / "kernels_sanitized.c"), *sources, "-o", str(program), "-lm"]

    subprocess.run(command, check=True, timeout=300)
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([program], capture_output=True, text=True, timeout=300, env=environment)

    assert (done.returncode, done.stderr, done.stdout) == (0, "", "nothing outside was touched\n")
