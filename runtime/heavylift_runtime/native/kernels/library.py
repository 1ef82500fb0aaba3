"""The C of this folder as a library that is loaded: compiled once for each machine, by the compiler that is there.

Not the functions' callers (calls.py), and no torch. An image may bring the library beside the sources, made by
`python -m heavylift_runtime.native.kernels.library`; else the first load makes it, in seconds, and keeps it in the
user's cache.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
from functools import cache
from hashlib import blake2b
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = ("products.c", "tiles.c", "rows.c", "head.c", "kernels.h", "sums.h", "tiles.h")
FLAGS = ("-O2", "-std=c11", "-fopenmp", "-shared", "-fPIC", "-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16")
"""AVX-512 with VNNI and bf16: Intel's since Cooper Lake, AMD's since Zen 4. gcc, whose OpenMP is PyTorch's own: two
of them would keep two sets of threads that wait for each other's processors."""
TILES = ("-mamx-tile", "-mamx-bf16", "-mamx-int8")
"""For tiles.c; what a gcc before 11 makes has none."""
NEEDED = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16"})
"""The same in /proc/cpuinfo's words. AMX is asked for when it is to be used (tiles.c)."""
PATIENCE = 120
"""Seconds that a compiler may take."""


@cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where this machine cannot have them."""
    if why() is not None:
        return None
    path = _brought() if _brought().is_file() else _made()
    try:
        return None if path is None else ctypes.CDLL(str(path))
    except OSError:  # brought by an image of another C library
        return None


def in_tiles() -> bool:
    """Whether they multiply in tiles: the processor has AMX, and the system lets this process have it."""
    found = library()
    return found is not None and hasattr(found, "tiled") and bool(found.tiled())


def said() -> str:
    """Whose kernels compute, and why, for the log."""
    if library() is not None:
        return "our own, with AMX" if in_tiles() else "our own"
    return f"PyTorch's, which are slower: {why() or 'our own could not be compiled and loaded'}"


def why() -> str | None:
    """What there is no library for, as a sentence; None: nothing is missing."""
    if missing := NEEDED - _features():
        return f"this processor has no {', '.join(sorted(missing))}"
    if not _brought().is_file() and shutil.which("gcc") is None:
        return "there is no gcc to compile them with"
    return None


def compile_into(path: Path) -> None:
    """Writes the library; CalledProcessError where the compiler refuses."""
    gcc = shutil.which("gcc")
    assert gcc is not None
    sources = [str(HERE / name) for name in SOURCES if name.endswith(".c")]
    half = path.with_suffix(f".{os.getpid()}")
    whole, older = ([gcc, *FLAGS, *more, *sources, "-o", str(half)] for more in (TILES, ()))
    if subprocess.run(whole, capture_output=True, timeout=PATIENCE).returncode != 0:
        subprocess.run(older, check=True, capture_output=True, text=True, timeout=PATIENCE)
    half.replace(path)


def _features() -> set[str]:
    """What this processor can; nothing, where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def _name() -> str:
    """Of other sources or flags it is another library."""
    content = b"".join((HERE / name).read_bytes() for name in SOURCES)
    return f"kernels-{blake2b(content + repr((FLAGS, TILES)).encode(), digest_size=8).hexdigest()}.so"


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
