"""Read the runs in a CSV file: long or wide tables, exports of W&B, files of Stable-Baselines3, Excel's dialects.

A file that cannot be understood is an error that names the file, the line and what was expected.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.importers.csv_columns import (
    MOST_SEED,
    SEED_COLUMN,
    Columns,
    Field,
    Layout,
    ReturnColumn,
    find_layout,
)
from analysis.importers.csv_table import CsvTable
from analysis.importers.run_names import split_name
from analysis.load import ReportError

Row = tuple[str, str, int, int]  # variant, task, seed, step

MOST_STEPS = 2**53  # beyond this, neighboring steps are one floating-point number
LONGEST_NAME = 200  # characters


@dataclass(frozen=True)
class RunsInFile:
    """The rows of a file that have a return."""

    sha256: str  # of the file
    read_as: str  # the format, and where each field comes from
    rows: dict[Row, float]
    notes: list[str]  # what was left out


def read_runs(source: Path, columns: Columns, tasks: Sequence[str]) -> RunsInFile:
    """The runs in `source`, on `tasks` of the sweep.

    Raises:
        ReportError: one line that names the file, the line in it, and what was expected.
    """
    try:
        content = source.read_bytes()
    except OSError as error:
        raise ReportError(f"{source}: cannot be read: {error.strerror}") from None
    layout = find_layout(CsvTable(source, content), columns, tasks)
    rows = _Reader(layout).rows()
    return RunsInFile(hashlib.sha256(content).hexdigest(), layout.description, rows, layout.notes)


@dataclass(frozen=True)
class _Reader:
    """Reads the rows of a table with this layout."""

    layout: Layout

    @property
    def table(self) -> CsvTable:
        return self.layout.table

    def rows(self) -> dict[Row, float]:
        """The returns by row; runs without a return are left out and named in the layout's notes."""
        places, values = self.layout.places, self.layout.returns
        rows: dict[Row, float] = {}
        runs: dict[tuple[str, str, int], int] = {}  # last step with a value
        total = 0
        for line, cells in self.table.lines:
            if not any(cells[one.place] for one in values):  # a row of other metrics; its other cells may be empty too
                if all(cells[places[name]] for name in ("variant", "task", "seed") if name in places):
                    for one in values:
                        runs.setdefault(self._run(cells, one, line), -1)
                continue
            if "step" in places:
                column = self.table.header[places["step"]]
                step = self.table.whole(self._cell(cells, "step", line), column, line, MOST_STEPS)
            else:
                length = self.table.whole(cells[self.table.header.index("l")], "l", line, MOST_STEPS)
                total += length
                step = total
                if not length > 0 or total > MOST_STEPS:
                    self.table.refuse(f"{length} in column 'l' is not the length of an episode", line)
            for one in values:
                run = self._run(cells, one, line)
                runs.setdefault(run, -1)
                if not cells[one.place]:
                    continue
                row = (*run, step)
                if row in rows:
                    self.table.refuse(f"{run[0]} on {run[1]}, seed {run[2]}, step {step} appears twice", line)
                rows[row] = self.table.number(cells[one.place], self.table.header[one.place], line)
                runs[run] = max(runs[run], step)
        for (variant, task, seed), last in runs.items():
            if last == 0:
                self.table.refuse(f"{variant} on {task}, seed {seed}: has no step above 0")
            if last < 0:
                self.layout.notes.append(f"left out {variant} on {task}, seed {seed}: no row has a return")
        if not rows:
            self.table.refuse("no row has a return")
        return rows

    def _cell(self, cells: Sequence[str], name: Field, line: int) -> str:
        if name in self.layout.fixed:
            return self.layout.fixed[name]
        text = cells[self.layout.places[name]]
        if not text:
            self.table.refuse(f"no value in column {self.table.header[self.layout.places[name]]!r}", line)
        return text

    def _run(self, cells: Sequence[str], one: ReturnColumn, line: int) -> tuple[str, str, int]:
        env, seed, variant = one.env, one.seed, one.variant
        if self.layout.known("variant"):
            variant = self._cell(cells, "variant", line)
            if seed is None and not self.layout.known("seed"):
                variant, seed, env = split_name(variant) or (variant, None, None)
        if self.layout.known("seed"):
            text = self._cell(cells, "seed", line)
            match = SEED_COLUMN.fullmatch(text)
            column = "--seed" if "seed" in self.layout.fixed else self.table.header[self.layout.places["seed"]]
            seed = self.table.whole(match[1] if match else text, column, line, MOST_SEED)
        if seed is None:
            self.table.refuse(f"no column 'seed', and no seed in {variant!r}; {self.layout.how_to('seed')}", line)
        task = self._cell(cells, "task", line) if self.layout.known("task") else env
        if task is None or task not in self.layout.tasks:
            self.table.refuse(f"{task!r} is {self.layout.no_task()}", line)
        return self._name(variant or "", line), task, seed

    def _name(self, variant: str, line: int) -> str:
        if not variant:
            self.table.refuse(f"the variant has no name; {self.layout.how_to('variant')}", line)
        if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in variant):
            self.table.refuse(f"the variant {variant!a} contains a control character; rename it", line)
        if len(variant) > LONGEST_NAME:
            self.table.refuse(f"the variant's name has {len(variant):,} characters; use at most {LONGEST_NAME}", line)
        return variant
