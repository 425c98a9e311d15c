"""The results of a report in the terminal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from analysis.tables import Cell, Grid, split_interval


@dataclass(frozen=True)
class ResultsTable:
    """A grid in the terminal: intervals are below estimates; columns that do not fit are in more tables below."""

    grid: Grid
    title: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = ([Text(name.text), *map(_stacked, cells)] for name, *cells in self.grid.rows)
        names, *columns = zip(*rows, strict=True)
        variant, *headings = ["\n".join(title.split()) for title in self.grid.header]
        longest = _width(word for name in names for word in name.plain.split())
        widths = [
            _width([heading, *(text.plain for text in column)])
            for heading, column in zip(headings, columns, strict=True)
        ]
        for place, part in enumerate(_pages(widths, options.max_width - longest)):
            title = None if place else self.title
            table = Table(title=title, title_justify="left", box=SIMPLE, show_edge=False, pad_edge=False)
            table.add_column(variant, overflow="fold")
            for i in part:
                table.add_column(headings[i], justify="right", no_wrap=True)
            for name, *cells in zip(names, *(columns[i] for i in part), strict=True):
                table.add_row(name, *cells)
            if place:
                yield ""
            yield table


def _stacked(cell: Cell) -> Text:
    return Text("\n".join(part for part in split_interval(cell.text) if part), style="bold" if cell.best else "")


def _width(texts: Iterable[str], gap: int = 3) -> int:
    return gap + max(len(line) for text in texts for line in text.splitlines())


def _pages(widths: Sequence[int], available: int) -> list[list[int]]:
    """Groups of column indices, in order: as many columns as fit the available width, at least one."""
    parts: list[list[int]] = [[]]
    left = available
    for place, width in enumerate(widths):
        if width > left and parts[-1]:
            parts.append([])
            left = available
        parts[-1].append(place)
        left -= width
    return parts
