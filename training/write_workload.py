"""Writes the benchmark's workload of held-out prompts: `python training/write_workload.py` (a second).

Not the training (train_tiny_t5.py), which never sees these inputs: tasks.held_out keeps the two apart.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tasks import TASKS, examples

TARGET = Path(__file__).parent.parent / "heavylift" / "benchmark" / "workloads" / "four-tasks.jsonl"


def rows(per_task: int, seed: int) -> list[dict[str, str]]:
    """`per_task` examples of each task, all inputs different."""
    chosen = []
    for task in TASKS:
        different = {}
        for text, answer in examples(task, seed=seed, unseen=True):
            different[text] = answer
            if len(different) == per_task:
                break
        chosen += [{"task": task, "input": text, "answer": answer} for text, answer in different.items()]
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--per-task", type=int, default=50)
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("".join(json.dumps(row) + "\n" for row in rows(args.per_task, args.seed)), encoding="utf-8")


if __name__ == "__main__":
    main()
