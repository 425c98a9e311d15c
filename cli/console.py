"""The terminal of all commands: how text, tables and JSON are printed, exit codes, and questions to the user."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table

from scorer_core.support import waiting
from scorer_core.support.commands import DEFAULT_OUTPUTS as DEFAULT_OUTPUTS

FAILED, USAGE, INTERRUPTED = 1, 2, 75

# Jupyter starts `!scorer ...` with FORCE_COLOR, but a cell of a notebook keeps every frame of a progress bar.
TERMINAL = False if "JPY_PARENT_PID" in os.environ else None  # None: rich finds out

# Names, paths and errors are printed as they are: never parsed as markup, never broken into lines.
out = Console(markup=False, highlight=False, emoji=False, soft_wrap=True, force_terminal=TERMINAL)
err = Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True, force_terminal=TERMINAL)


def _print_waiting(line: str) -> None:
    print(line, file=sys.__stderr__, flush=True)


waiting.hook = _print_waiting


def print_json(value: Any, indent: int | None = 1) -> None:
    """Write `value` to stdout as JSON. `indent=None` writes one line, which is ten times faster for large values."""
    sys.stdout.write(json.dumps(value, indent=indent) + "\n")


def exit_with_error(message: str, code: int) -> NoReturn:
    """Print `message` to stderr and end the program with the exit code `code`."""
    err.print(message)
    raise typer.Exit(code)


def confirm(question: str, yes: bool) -> None:
    """Return if the user agrees, or if `yes`; otherwise end the program. Without a terminal, `yes` is required."""
    if yes:
        return
    if not sys.stdin.isatty():
        exit_with_error(f"{question} Add -y to confirm: there is no terminal to answer on. Nothing was done.", USAGE)
    if not typer.confirm(question):
        exit_with_error("Nothing was done.", FAILED)


def table(*titles: str | Column, **options: Any) -> Table:
    """A table that folds long names in its cells and never cuts them off."""
    columns = [Column(title) if isinstance(title, str) else title for title in titles]
    for column in columns:
        column.overflow = "fold"
    return Table(*columns, **options)


class SplitTable:
    """A table whose first column names the rows; columns that do not fit the screen are in further tables below it."""

    def __init__(self, titles: Sequence[str], rows: Sequence[Sequence[str]]):
        self.titles, self.rows = titles, rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts: list[list[int]] = [[]]
        for place in range(1, len(self.titles)):
            if parts[-1] and self._least(console, options, [*parts[-1], place]) > options.max_width:
                parts.append([])
            parts[-1].append(place)
        yield from map(self._table, parts)

    def _table(self, places: Sequence[int]) -> Table:
        drawn = table(self.titles[0], *(self.titles[place] for place in places))
        for row in self.rows:
            drawn.add_row(row[0], *(row[place] for place in places))
        return drawn

    def _least(self, console: Console, options: ConsoleOptions, places: Sequence[int]) -> int:
        """The width at which only the names of the rows are folded."""
        drawn = self._table(places)
        drawn.columns[0].max_width = 20
        return Measurement.get(console, options.update(width=100_000), drawn).minimum
