"""What every verb of the command line shares: its terminal, its exit codes, and the options that mean the same."""

import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from typer.core import TyperGroup

from scorer_core.support.commands import DEFAULT_OUTPUTS as DEFAULT_OUTPUTS  # the verbs' own name for it

FAILED, USAGE, INTERRUPTED = 1, 2, 75

# Names, paths and errors are printed as they are: never parsed as markup, never broken into lines.
out = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
err = Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)


def print_json(value: Any, indent: int | None = 1) -> None:
    """Indented for a reader; without, ten times faster for what is large."""
    sys.stdout.write(json.dumps(value, indent=indent) + "\n")


def exit_with_error(message: str, code: int) -> NoReturn:
    """End the program with one line on what is wrong."""
    err.print(message)
    raise typer.Exit(code)


def table(*titles: str | Column, **options: Any) -> Table:
    """A table that folds long names in its cells and never cuts them off."""
    columns = [Column(title) if isinstance(title, str) else title for title in titles]
    for column in columns:
        column.overflow = "fold"
    return Table(*columns, **options)


class Fitted:
    """A table whose first column names the rows; columns without room stand in further tables below."""

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


class RunByDefault(TyperGroup):
    """A group of verbs of which `run` need not be said: what is no verb of it is what is to be run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)
