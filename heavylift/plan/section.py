"""A titled table of a plan, as plain lines or for a terminal. Not what is in it (show.py and its like)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES = {"given": "bold", "computed": "green", "measured": "cyan", "assumed": "yellow"}
"""Of the cells that say how a value was obtained; the words say it without colours too."""
WARNING = "uncalibrated"
WIDEST = 30  # characters of a column of texts on a terminal, but for the last


@dataclass(frozen=True)
class Section:
    """`head` names the columns, `right` those of numbers. `note` stands under the table; `total` is its last row.

    Without rows it is a title with a note.
    """

    title: str
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    note: str | None = None
    right: tuple[str, ...] = ()
    total: tuple[str, ...] | None = None

    @property
    def warns(self) -> bool:
        """The note says that nothing was measured."""
        return self.note is not None and WARNING in self.note

    @property
    def lines(self) -> tuple[tuple[str, ...], ...]:
        """All rows, the total included."""
        return self.rows if self.total is None else (*self.rows, self.total)


def plain(sections: Iterable[Section]) -> str:
    """Aligned lines without colours, as long as their texts: for a log, a pipe, a diff."""
    return "\n\n".join("\n".join(_lines(section)) for section in sections) + "\n"


def _lines(section: Section) -> Iterator[str]:
    yield section.title
    if section.rows:
        yield from _aligned(section)
    if section.note is not None:
        yield section.note


def _aligned(section: Section) -> Iterator[str]:
    rows: list[Sequence[str]] = [section.head, *section.lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(section.head))]
    last = len(section.head) - 1
    rule = ["-" * (len(name) if place == last else widths[place]) for place, name in enumerate(section.head)]
    for row in (section.head, rule, *section.lines):
        cells = [
            cell.rjust(width) if name in section.right else cell.ljust(width)
            for name, cell, width in zip(section.head, row, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def drawn(sections: Iterable[Section]) -> RenderableType:
    """For a rich console: never wider than it; long texts fold within their column."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for section in sections:
        parts.append(Text(section.title, style="bold"))
        if section.rows:
            parts.append(_table(section))
        if section.note is not None:
            parts.append(Text(section.note, style="yellow" if section.warns else "dim"))
        parts.append(Text())
    return Group(*parts)


def _table(section: Section) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", padding=(0, 1))
    last, prose = section.head[-1], len(section.head) > 3
    for name in section.head:
        table.add_column(
            name,
            justify="right" if name in section.right else "left",
            overflow="fold",
            ratio=1 if name == last and name not in section.right else None,
            min_width=min(len(name), 12),
            max_width=WIDEST if prose and name != last and name not in section.right else None,
        )
    for row in section.lines:
        bold = "bold" if row is section.total else ""
        table.add_row(*(Text(cell, style=STYLES.get(cell, bold)) for cell in row))
    return table
