"""Export a sweep to an experiment tracker: each run's new rows, then a mark."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from analysis.exporters.marks import Marks
from analysis.exporters.runs import Cell, TrackedRun, load_cells, read_runs


class Writer(Protocol):
    """What receives the runs of one export."""

    def has(self, cell: Cell) -> bool:
        """Whether what was exported of a run is still there, as far as one can tell from here."""
        ...

    def write(self, run: TrackedRun) -> int:
        """Export what is new of a run, and write its mark then or later; the number of exported rows.

        Raises:
            ExportError: if the destination refuses.
            RecordError: if a file cannot be written.
        """
        ...


class Tracker(Protocol):
    """A destination."""

    def marks(self, folder: Path, sweep: str) -> AbstractContextManager[Marks]: ...

    def writer(self, folder: Path, sweep: str, marks: Marks) -> AbstractContextManager[Writer]:
        """All marks are written when it is left without an exception."""
        ...


@dataclass
class Exported:
    """What one export did, and what is left."""

    runs: int = 0  # runs with something new
    rows: int = 0
    unfinished: int = 0  # planned runs that are not finished
    imported: int = 0  # runs of other codebases: they are left out
    problems: tuple[str, ...] = ()


def export_runs(
    folder: Path,
    tracker: Tracker,
    overrides: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Exported:
    """Export every row that is committed and not exported yet.

    Args:
        folder: outputs/<sweep>.
        tracker: the destination.
        overrides: KEY=VALUE changes of the sweep's definition (analysis/load.py).
        progress: called with the number of runs that were looked at, and of all.

    Raises:
        ReportError: if there is no readable definition.
        ExportError: if the destination refuses.
        RecordError: if a file cannot be written.
    """
    results, cells = load_cells(folder, overrides)
    planned = [row for row in results.runs if row.config is not None]
    exported = Exported(
        unfinished=sum(row.status not in ("done", "diverged") for row in planned),
        imported=len(results.runs) - len(planned),
    )
    problems = list(results.problems)
    name = results.sweep.name
    with tracker.marks(folder, name) as marks, tracker.writer(folder, name, marks) as writer:
        wanted = [cell for cell in cells if marks.may_be_new(cell) or not writer.has(cell)]
        for number, run in enumerate(read_runs(wanted, problems), start=1):
            if marks.is_new(run) or not writer.has(run.cell):
                exported.rows += writer.write(run)
                exported.runs += 1
            progress(number, len(wanted))
    exported.problems = tuple(problems)
    return exported
