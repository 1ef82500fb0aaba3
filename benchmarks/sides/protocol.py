"""How a side talks to the benchmark: JSON lines on its own standard input and output. Standard library only.

Not a measurement: a side loads, says so, and then answers each question with the seconds that it took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Generate = Callable[[list[list[int]], int], int]
"""Prompts as token ids, and how many tokens each answer must have → tokens generated."""


def main(load: Callable[[dict[str, Any]], tuple[Generate, str]]) -> None:
    """`load`: the first line's settings → the side, and its version. Whatever else is printed goes to stderr."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    generate, version = load(json.loads(sys.stdin.readline()))
    print(json.dumps({"version": version}), file=out)
    for line in sys.stdin:
        question = json.loads(line)
        started = time.perf_counter()
        tokens = generate(question["prompts"], question["tokens"])
        print(json.dumps({"seconds": time.perf_counter() - started, "tokens": tokens}), file=out)
