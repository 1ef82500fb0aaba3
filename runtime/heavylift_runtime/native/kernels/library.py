"""The C of this folder as a library that is loaded: compiled once for each machine, by the compiler that is there.

Not the functions' callers (calls.py). An image may bring the library beside the sources, made by `python -m
heavylift_runtime.native.kernels.library`; else it is made at the first load, in seconds, and kept in the user's cache.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import shutil
import subprocess
from functools import cache
from hashlib import blake2b
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
SOURCES = ("products.c", "rows.c", "kernels.h")
FLAGS = ("-O2", "-std=c11", "-fopenmp", "-shared", "-fPIC", "-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16")
"""AVX-512 with VNNI and bf16: Intel's since Cooper Lake, AMD's since Zen 4. gcc, whose OpenMP is PyTorch's own: two
of them would keep two sets of threads that wait for each other's processors."""
PATIENCE = 120
"""Seconds that a compiler may take."""


@cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where this machine cannot have them; `why()` says what is missing."""
    if why() is not None:
        return None
    path = _brought() if _brought().is_file() else _made()
    return None if path is None else ctypes.CDLL(str(path))


def why() -> str | None:
    """What there is no library for, as a sentence; None: nothing is missing."""
    if platform.machine() != "x86_64" or not torch.cpu._is_avx512_bf16_supported():
        return "this processor has no AVX-512 with bf16"
    if not torch.cpu._is_vnni_supported():
        return "this processor has no AVX-512 with VNNI"
    if not _brought().is_file() and shutil.which("gcc") is None:
        return "there is no gcc to compile them with"
    return None


def compile_into(path: Path) -> None:
    """Writes the library; CalledProcessError where the compiler refuses."""
    gcc = shutil.which("gcc")
    assert gcc is not None
    sources = [str(HERE / name) for name in SOURCES if name.endswith(".c")]
    half = path.with_suffix(f".{os.getpid()}")
    subprocess.run(
        [gcc, *FLAGS, *sources, "-o", str(half)], check=True, capture_output=True, text=True, timeout=PATIENCE
    )
    half.replace(path)


def _name() -> str:
    """Of other sources or flags it is another library."""
    content = b"".join((HERE / name).read_bytes() for name in SOURCES)
    return f"kernels-{blake2b(content + repr(FLAGS).encode(), digest_size=8).hexdigest()}.so"


def _brought() -> Path:
    return HERE / _name()


def _made() -> Path | None:
    """From the user's cache, made where it is missing; None where nothing can be made or trusted there."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heavylift" / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o022:
            return None  # somebody else could write what we would run
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # ranks start together, and one compiler is enough
            path = folder / _name()
            if not path.is_file():
                compile_into(path)
        return path
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return None


if __name__ == "__main__":
    compile_into(_brought())
    print(_brought())
