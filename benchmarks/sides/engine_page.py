"""docs/engines-compared.md and its plots, from benchmarks/results/engines.json and the registry alone.

Not the measurement (benchmarks/engines.py). Which engine to pick is said twice over: what only some can do, as the
registry has it, and then how fast those are that can.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sides.engine_rows import BATCH

from heavylift.report import tails
from heavylift.report.table import COLUMNS, TEXTS, cells
from heavylift_runtime.engines.registry import ANY, ENGINES

BEGIN, END = "<!-- measured by benchmarks/engines.py -->", "<!-- measured: end -->"
BUSY = 0.1
"""Of the machine: what other programs may take of it before a row is marked."""
MORE = ("Ready after (s)", "Memory of the ranks (MB)", "Requests")
DTYPES = {"tiny-llama": "fp32", "tiny-t5": "fp32", "llama-350m": "bf16"}
Record = Mapping[str, Any]


def write_page(root: Path, document: Record) -> None:
    """The page's part between its marks, and a plot for each model."""
    for model, rows in _by_model(document).items():
        series = {row["row"]: [math.inf if each is None else each for each in row["latencies_ms"]] for row in rows}
        below = f"{BATCH} prompts in a request, one client; {DTYPES[model]}; {document['machine']['cores']} cores"
        picture = tails.to_png(f"{model}: share of the requests slower than so many ms", below, series)
        (root / "docs" / f"engines-{model}.png").write_bytes(picture)
    place = root / "docs" / "engines-compared.md"
    page = place.read_text(encoding="utf-8")
    before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    place.write_text(before + "\n" + "\n".join(_lines(document)) + "\n" + after, encoding="utf-8")


def _by_model(document: Record) -> dict[str, list[Record]]:
    """The rows that have a number."""
    found: dict[str, list[Record]] = {}
    for row in document["rows"]:
        if "why" not in row:
            found.setdefault(row["model"], []).append(row)
    return found


def _lines(document: Record) -> Iterator[str]:
    machine, rows = document["machine"], [row for row in document["rows"] if "why" not in row]
    most, begun = max(row["others_share"] for row in rows), document["begun"][:16].replace("T", " ")
    yield (
        f"**Conditions.** {machine['cores']} cores ({machine['processor']}), {begun} UTC, "
        f"commit {document['commit'][:12]}. Other programs took at most {most:.0%} of the machine while a row was "
        f"measured{f'; rows marked * had to share more than {BUSY:.0%} of it, and are worth little' * (most > BUSY)}."
    )
    yield ""
    versions = "; ".join(f"`{name}`: {packages}" for name, packages in document["versions"].items())
    yield f"**Versions.** {versions}."
    for model, found in _by_model(document).items():
        yield from ("", f"### {model}", "")
        yield from _table(found)
        shown = f"Share of {model}'s requests slower than so many milliseconds, a line for each engine"
        yield from ("", f"![{shown}](engines-{model}.png)")
    for row in document["rows"]:
        if "why" in row:
            yield from ("", f"No number: {row['model']} on {row['row']}: {row['why']}")
    yield from ("", "## Which to pick", "", *_needs(), "", *_figures(_by_model(document)))


def _table(rows: Sequence[Record]) -> Iterator[str]:
    """The FLAN-T5 table's columns, and what a row took."""
    yield f"| {' | '.join((*COLUMNS.values(), *MORE))} |"
    yield f"|{'|'.join('---' if key in TEXTS else '--:' for key in COLUMNS)}|{'--:|' * len(MORE)}"
    for row in rows:
        model, engine, *texts = cells(row)
        answered = f"{len(row['latencies_ms']):,}" + (f" ({row['failed']:.0%} failed)" if row["failed"] else "")
        took = (f"{row['ready_s']:.1f}", f"{row['peak_bytes'] / 1e6:,.0f}", answered)
        yield f"| {' | '.join((model, engine + '*' * (row['others_share'] > BUSY), *texts, *took))} |"


def _needs() -> Iterator[str]:
    """What leaves a choice or none, from the registry."""
    rows = [row for row in ENGINES.values() if row.name != "script"]
    own = [(row.name, row.families, row.quantizations) for row in rows]
    yield "First by what is needed; [capabilities.md](capabilities.md) has the whole table:"
    yield ""
    for need, names in (
        ("LoRA adapters", [row.name for row in rows if row.adapters]),
        ("Answers bound to a form (JSON schemas, grammars)", [row.name for row in rows if row.structured]),
        ("T5, on processors", [row.name for row in rows if row.serves("t5", "cpu")]),
        ("Llama, on processors", [row.name for row in rows if row.serves("llama", "cpu")]),
        (
            "Embeddings, classes, filled masks; a family that no other has; a model larger than the memory",
            [name for name, families, _ in own if ANY in families],
        ),
        ("8 bits on processors", [name for name, _, kinds in own if "int8" in kinds]),
        ("4 bits on processors", [name for name, _, kinds in own if "int4" in kinds]),
        ("Files split ahead of time, one for each rank", [row.name for row in rows if row.aot_partition]),
        ("Stages, those of vLLM on GPUs only", [row.name for row in rows if row.pipeline_parallel]),
        ("GPUs, where none of them was measured", [row.name for row in rows if "gpu" in row.hardware]),
        ("Inf2, Trn1, Trn2", [row.name for row in rows if row.hardware == ("neuron",)]),
    ):
        yield f"- **{need}**: {', '.join(f'`{name}`' for name in names)}."
    yield "- **Scripts and requests that were written for FasterTransformer**: its name, on `native`'s kernels."
    yield "- **Anything else**: `script`, a `model.py` of your own."


def _figures(found: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    """Who leads, of the rows above."""
    yield "Then, of those that remain, the one with the most tokens that starts soon enough and has room:"
    yield ""
    for model, rows in found.items():
        fast = sorted(rows, key=lambda row: -row["table"]["tokens_per_second"])
        soon = [f"{_short(row)} ({row['ready_s']:.0f} s)" for row in sorted(rows, key=lambda row: row["ready_s"])]
        by_size = sorted(rows, key=lambda row: row["peak_bytes"])
        small = [f"{_short(row)} ({row['peak_bytes'] / 1e6:,.0f} MB)" for row in by_size]
        listed = ", ".join(f"{_short(row)} {row['table']['tokens_per_second']:,.0f}" for row in fast)
        yield (
            f"- **{model}**, tokens/s: {listed}; the first has {_ratio(fast[0], fast[-1])} times the last. Ready "
            f"soonest: {soon[0]}, last: {soon[-1]}. Least memory: {small[0]}, most: {small[-1]}.{_split(rows)}"
        )


def _short(row: Record) -> str:
    """A row's name in a sentence."""
    name, _, degree = str(row["row"]).partition(", degree ")
    engine, _, bits = name.partition(" ")
    return f"`{engine}`{f' {bits}' if bits else ''}{'' if degree == '1' else f' over {degree} ranks'}"


def _ratio(one: Record, other: Record) -> str:
    return f"{one['table']['tokens_per_second'] / other['table']['tokens_per_second']:.1f}"


def _split(rows: Sequence[Record]) -> str:
    """What two ranks on these cores are to one process that has both."""
    known = {row["row"]: row for row in rows}
    pairs = [(name, f"{name}, degree 1", f"{name}, degree 2") for name in ENGINES]
    told = [f"`{name}` {_ratio(known[two], known[one])}" for name, one, two in pairs if {one, two} <= known.keys()]
    return f" Two ranks have so many times the tokens of one process: {', '.join(told)}." if told else ""
