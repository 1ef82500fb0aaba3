"""Mélange's public answers against ours, on its authors' own inputs. Not a test of speed.

The inputs (throughputs of Llama-2-7b on L4, A10G, A100 and H100, the histogram of 10,000 Arena conversations, the
README's example) are in public repositories without a licence, so they are not in ours: this script fetches them from
GitHub at fixed commits, or reads copies of them from a folder. What the authors' own solver (PuLP with CBC, at d46ab43)
answers stands below. The last line is one JSON object; without network and copies it says that nothing was compared.

    .venv/bin/python benchmarks/fleet_melange.py [--folder COPIES] [--rates 1 2 4 8 16 32]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from heavylift.plan.fleet import Bucket, Fleet, Offer, Problem, solve
from heavylift.plan.fleet.document import MelangeFile

RAW = "https://raw.githubusercontent.com"
SOURCES = {
    "eval.ipynb": f"{RAW}/litone01/melange-release/3d13f19/eval/eval.ipynb",
    "eval-1000.ipynb": f"{RAW}/litone01/melange-release/4acefed/eval/eval.ipynb",
    "example.json": f"{RAW}/tyler-griggs/melange-release/d46ab43/melange/config/example.json",
}
PRICES = {"L4": 0.70, "A10G": 1.01, "A100": 3.67, "H100": 6.234}
HEADLINE_H100 = 7.516  # the price that the paper's figures imply; the notebook has 6.234
SIDE = 6  # the tables' common part: 25 to 2,000 tokens in, 25 to 2,000 out
SIZES = (25, 100, 250, 500, 1000, 2000)

# requests/s → (their fleet, dollars an hour, single types: count)
ANSWERS = {
    1: ({"L4": 1, "A10G": 1}, 1.71, {"L4": 3, "A10G": 2, "A100": 1, "H100": 1}),
    4: ({"L4": 1, "A100": 1}, 4.37, {"L4": 9, "A10G": 5, "A100": 2, "H100": 1}),
}
# what the notebook of 1,000 conversations recorded at 4 requests/s (its rows are sizes out in one table, in in others)
RECORDED = ({"A10G": 1, "A100": 2}, 8.35, {"A10G": 9, "A100": 3})
EXAMPLE = 5.69  # dollars an hour with four slices for each bucket; 6.70 with one, as in the README
HEADLINE = 77.25  # percent saved against H100s alone at 1 request/s

Table = list[list[float]]


def main() -> int:
    """0 when every answer that could be compared is met or beaten."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help=f"copies of {' and '.join(SOURCES)}")
    parser.add_argument("--rates", type=float, nargs="*", default=[1, 2, 4, 8, 16, 32], help="requests per second")
    chosen = parser.parse_args()
    try:
        texts = {name: text_of(name, chosen.folder) for name in SOURCES}
    except OSError as error:
        print(f"cannot read the inputs: {error}; give copies of them with --folder", file=sys.stderr)
        print(json.dumps({"benchmark": "fleet_melange", "compared": False}))
        return 0
    tables, histogram = tables_of(texts["eval.ipynb"])
    rows = []
    print(f"{'requests/s':>10}  {'ours':<28} {'$/h':>8}  {'theirs':>8}  {'s':>6}  verdict")
    for rate in chosen.rates:
        started = time.perf_counter()
        fleet = solve(problem_of(tables, histogram, rate, PRICES))
        seconds = time.perf_counter() - started
        known = ANSWERS.get(int(rate)) if rate == int(rate) else None
        verdict = "-" if known is None else met(fleet, known)
        mix = " ".join(f"{count} {name}" for name, count in fleet.counts.items())
        theirs = "" if known is None else f"{known[1]:.2f}"
        print(f"{rate:>10g}  {mix:<28} {fleet.usd_per_hour:>8.3f}  {theirs:>8}  {seconds:>6.3f}  {verdict}")
        rows.append({"rate": rate, "fleet": fleet.counts, "usd_per_hour": fleet.usd_per_hour, "gap": fleet.gap,
                     "verdict": verdict, "seconds": round(seconds, 4)})  # fmt: skip
    headline = solve(problem_of(tables, histogram, 1, {**PRICES, "H100": HEADLINE_H100}))
    saving = 100 * next(one.saving for one in headline.alone if one.name == "H100")
    print(f"saved against H100s alone at 1 request/s, H100 at ${HEADLINE_H100}: {saving:.2f} % (paper: {HEADLINE} %)")
    recorded = met(solve(arena_1000(texts["eval-1000.ipynb"])), RECORDED)
    print(f"the notebook's own record, 1,000 conversations at 4 requests/s on two types, $8.35 an hour: {recorded}")
    example = solve(MelangeFile.model_validate_json(texts["example.json"]).problem())
    print(f"the README's example: ${example.usd_per_hour:.2f} an hour (theirs: {EXAMPLE}, with one slice 6.70)")
    missed = [row["rate"] for row in rows if "MISSED" in row["verdict"]]
    good = not missed and recorded == "met" and abs(saving - HEADLINE) < 0.005 and _meets(example.usd_per_hour, EXAMPLE)
    last = {
        "benchmark": "fleet_melange",
        "compared": True,
        "sources": SOURCES,
        "rows": rows,
        "recorded": recorded,
        "example_usd_per_hour": example.usd_per_hour,
        "headline_percent": round(saving, 4),
        "all_met": good,
    }
    print(json.dumps(last))
    return 0 if good else 1


def met(fleet: Fleet, known: tuple[dict[str, int], float, dict[str, int]]) -> str:
    """Whether ours costs no more than theirs, and of each single type alone as many are needed."""
    if not _meets(fleet.usd_per_hour, known[1]):
        return "MISSED"
    return "met" if {one.name: one.count for one in fleet.alone} == known[2] else "MISSED (single types)"


def arena_1000(notebook: str) -> Problem:
    """Two types and 1,000 conversations, cell by cell as the notebook multiplies them."""
    lists = list(_lists(notebook))
    tables = {
        name: next(table for table in lists if table[0][0] == corner)
        for name, corner in {"A10G": 33.96, "A100": 46.7}.items()
    }
    shares = next(table for table in lists if len(table) == SIDE and abs(sum(map(sum, table)) - 1) < 0.001)
    return problem_of(tables, shares, 4, {name: PRICES[name] for name in tables})


def _meets(ours: float, theirs: float) -> bool:
    return ours <= theirs + 0.005  # theirs is printed to the cent


def text_of(name: str, folder: Path | None) -> str:
    if folder is not None:
        return (folder / name).read_text(encoding="utf-8")
    with urllib.request.urlopen(SOURCES[name], timeout=60) as reply:
        text: str = reply.read().decode()
        return text


def problem_of(tables: dict[str, Table], histogram: Table, rate: float, prices: dict[str, float]) -> Problem:
    places = [(row, column) for row in range(SIDE) for column in range(SIDE)]
    return Problem(
        tuple(Bucket(SIZES[row], SIZES[column], histogram[row][column] * rate) for row, column in places),
        tuple(
            Offer(name, price, tuple(tables[name][row][column] for row, column in places))
            for name, price in prices.items()
        ),
    )


def tables_of(notebook: str) -> tuple[dict[str, Table], Table]:
    """The four tables, cut to their common part, and the histogram, with input sizes as rows, of sum 1."""
    lists = list(_lists(notebook))
    tables = {
        name: next(table for table in lists if round(table[0][0], 2) == corner)
        for name, corner in {"L4": 25.14, "A10G": 33.96, "A100": 46.7, "H100": 40.64}.items()
    }
    flipped = next(table for table in lists if len(table) == SIDE and abs(sum(map(sum, table)) - 100) < 1)
    histogram = [[flipped[SIDE - 1 - column][row] / 100 for column in range(SIDE)] for row in range(SIDE)]
    return {name: [row[:SIDE] for row in table[:SIDE]] for name, table in tables.items()}, histogram


def _lists(notebook: str) -> Iterator[Table]:
    """Every table of numbers in the notebook's code (with commas) and its printed output (numpy's, without)."""
    for cell in json.loads(notebook)["cells"]:
        printed = ["".join(output.get("text", [])) for output in cell.get("outputs", [])]
        for text in ("".join(cell["source"]), *printed):
            for found in re.findall(r"\[\s*(\[[\d\s.,\[\]e+-]*\])\s*,?\s*\]", text):
                rows = [row.replace(",", " ").split() for row in re.findall(r"\[([^\[\]]*)\]", found)]
                if all(rows):
                    yield [[float(number) for number in row] for row in rows]


if __name__ == "__main__":
    sys.exit(main())
