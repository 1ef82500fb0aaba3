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
    neuron = _named(row.name for row in rows if row.hardware == ("neuron",))
    every = _named(row.name for row in rows if ANY in row.families)
    t5 = _named(row.name for row in rows if row.serves("t5", "cpu"))
    llama = _named(row.name for row in rows if row.serves("llama", "cpu"))
    yield "First by what is needed; [capabilities.md](capabilities.md) has the whole table:"
    yield ""
    yield f"- **LoRA adapters**: {_named(row.name for row in rows if row.adapters)}. **Answers bound to a form** (JSON"
    yield f"  schemas, grammars): {_named(row.name for row in rows if row.structured)}."
    yield "- **A family that none of the others has**, embeddings, classes, filled masks, a model larger than the"
    yield f"  memory (`device_map`): {every}; or a `model.py` of your own."
    yield f"- **T5**: {t5}. **Llama and its like**, on processors: {llama}."
    yield f"- **Fewer bits on processors**: {_named(r.name for r in rows if 'int8' in r.quantizations)} (int8),"
    yield f"  {_named(r.name for r in rows if 'int4' in r.quantizations)} (int4)."
    yield f"- **Split ahead of time**: {_named(row.name for row in rows if row.aot_partition)}. **Stages**:"
    yield f"  {_named(row.name for row in rows if row.pipeline_parallel)}."
    yield "- **Scripts and requests written for FasterTransformer**: `fastertransformer`, whose kernels are `native`'s."
    yield f"- **Inf2, Trn1, Trn2**: {neuron}. **GPUs**: `vllm` for decoder-only models, `accelerate` and `deepspeed`"
    yield "  for others; no engine was measured there."


def _figures(found: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    """Who leads, of the rows above."""
    yield "Then by the figures above, of this machine and these models:"
    yield ""
    for model, rows in found.items():
        fast = sorted(rows, key=lambda row: -row["table"]["tokens_per_second"])
        best, single = fast[0], [row for row in fast if row["row"].endswith("degree 1")]
        names = ", ".join(f"{row['row']} {row['table']['tokens_per_second']:,.0f}" for row in fast)
        yield f"- **{model}**, tokens/s from the most: {names}."
        soon, small = min(rows, key=lambda row: row["ready_s"]), min(rows, key=lambda row: row["peak_bytes"])
        late, large = max(rows, key=lambda row: row["ready_s"]), max(rows, key=lambda row: row["peak_bytes"])
        yield (
            f"  {best['row']} has {_times(best, single[-1])} times the tokens of {single[-1]['row']}. Ready soonest:"
            f" {soon['row']} ({soon['ready_s']:.0f} s), last: {late['row']} ({late['ready_s']:.0f} s). Least memory:"
            f" {small['row']} ({small['peak_bytes'] / 1e6:,.0f} MB), most: {large['row']}"
            f" ({large['peak_bytes'] / 1e6:,.0f} MB)."
        )
        for line in _splits(rows):
            yield f"  {line}"


def _times(one: Record, other: Record) -> str:
    return f"{one['table']['tokens_per_second'] / other['table']['tokens_per_second']:.1f}"


def _splits(rows: Sequence[Record]) -> Iterator[str]:
    """What two ranks on these cores are to one."""
    whole = {
        row["table"]["engine"]: row for row in rows if row["row"].endswith(", degree 1") and "int8" not in row["row"]
    }
    pairs = [(row, whole[row["table"]["engine"]]) for row in rows if row["row"].endswith(", degree 2")]
    told = ", ".join(f"{two['table']['engine']} {_times(two, one)}" for two, one in pairs if two and one)
    if told:
        yield f"Two ranks instead of one process on both cores give so many times the tokens: {told}."


def _named(names: Iterator[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
