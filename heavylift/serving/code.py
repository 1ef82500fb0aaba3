"""The user's code folder, read whole. Not run, and not installed: the container does that."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

from heavylift.errors import InputError

LARGEST_BYTES = 16 * 1024 * 1024
MOST_FILES = 500
RESERVED = ("serving.properties", "manifest.json")
NAME = re.compile(r"[A-Za-z0-9._+@ -]+(/[A-Za-z0-9._+@ -]+)*")  # one line of the digest, one key
LEFT_OUT = ("__pycache__", ".git", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".DS_Store")


def read_code(folder: Path) -> dict[str, bytes]:
    """Relative path → content, sorted. Follows no links. Raises InputError with every file that cannot be in it."""
    if not folder.is_dir():
        raise InputError(f"no code folder {folder}; 'code' names a folder with model.py, relative to the model file")
    faults: list[str] = []
    files: dict[str, bytes] = {}
    total = 0
    for path in sorted(_walk(folder)):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            faults.append(f"{path} is a link or not a plain file; copy the file into the code folder")
        elif not NAME.fullmatch(name):
            faults.append(f"{str(path)!r} must be named with letters, digits, blanks, '.', '_', '-', '+' and '@'")
        elif name in RESERVED:
            faults.append(f"{path}: Heavylift writes a file of that name itself; rename it")
        elif (total := total + path.stat().st_size) > LARGEST_BYTES or len(files) == MOST_FILES:
            limit = f"at most {MOST_FILES} files and {LARGEST_BYTES >> 20} MiB"
            raise InputError(f"the code folder {folder} is too large: {limit}; weights belong to 'model'")
        else:
            files[name] = path.read_bytes()
    if "model.py" not in files:
        faults.append(f"{folder}/model.py is missing: the script engine runs its handle(inputs)")
    if faults:
        raise InputError(faults)
    return files


def imported(folder: Path) -> set[str]:
    """The dotted names of all modules that the folder's Python files import, anywhere in them. Raises InputError."""
    names: set[str] = set()
    for name, content in read_code(folder).items():
        if not name.endswith(".py"):
            continue
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError):  # the container says so, with the line
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
                names |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return names


def _walk(folder: Path) -> list[Path]:
    found: list[Path] = []
    for root, folders, names in os.walk(folder, followlinks=False):
        linked = [name for name in folders if (Path(root) / name).is_symlink()]
        folders[:] = [name for name in folders if name not in LEFT_OUT and name not in linked]
        found += [Path(root) / name for name in (*names, *linked) if name not in LEFT_OUT]
    return found
