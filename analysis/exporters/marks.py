"""How much of each run was exported to a destination: one small file per destination, in the sweep's folder.

A mark is written after the rows are safe at the destination, so an export that is killed repeats rows and misses none;
each destination removes what is repeated.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from analysis.exporters.runs import Cell, TrackedRun
from scorer_core.record_forms import read_record
from scorer_core.support.files import write_json
from scorer_core.support.locks import try_lock

FOLDER = "exports"  # in the folder of a sweep


class ExportError(Exception):
    """An export cannot be made as asked; the message is one line."""


class Mark(BaseModel):
    """How much of one run was exported."""

    rows: Annotated[int, Field(ge=0)]
    status: str  # as exported
    fingerprint: str  # of these rows
    size: Annotated[int, Field(ge=0)] = 0  # bytes of the run's file, where the destination is one


class MarksRecord(BaseModel):
    """exports/<destination>.json"""

    destination: str
    runs: dict[str, Mark] = {}
    report: str = ""  # hash of the last exported report


@dataclass
class Marks:
    """The marks of one destination. Only the process that opened them writes."""

    path: Path
    record: MarksRecord

    def of(self, cell: Cell) -> Mark | None:
        return self.record.runs.get(cell.key)

    def may_be_new(self, cell: Cell) -> bool:
        """False if the run is finished, and was when it was exported."""
        mark = self.of(cell)
        return mark is None or not cell.finished or mark.status != cell.row.status

    def is_new(self, run: TrackedRun) -> bool:
        """Whether the run has rows or a status that were not exported."""
        mark = self.of(run.cell)
        return mark is None or len(run.steps) > mark.rows or run.cell.row.status != mark.status

    def is_same(self, run: TrackedRun) -> bool:
        """Whether the exported rows are those of the run, as far as it still has them; not if it was trained anew."""
        mark = self.of(run.cell)
        return mark is None or len(run.steps) < mark.rows or run.fingerprint(mark.rows) == mark.fingerprint

    def write(self, run: TrackedRun, size: int = 0) -> None:
        """Record that all rows of the run are exported. A run may have gone back to an earlier checkpoint since.

        Raises:
            RecordError: if the file cannot be written.
        """
        mark, rows, status = self.of(run.cell), len(run.steps), run.cell.row.status
        if mark is None or mark.rows <= rows:
            new = Mark(rows=rows, status=status, fingerprint=run.fingerprint(rows), size=size)
        else:
            new = mark.model_copy(update={"status": status})
        self.record.runs[run.cell.key] = new
        self.save()

    def save(self) -> None:
        write_json(self.path, self.record.model_dump())


@contextmanager
def open_marks(folder: Path, kind: str, name: str, destination: str) -> Iterator[Marks]:
    """The marks of a destination, which no other process exports to at the same time.

    Args:
        folder: outputs/<sweep>.
        kind: of the destination: wandb, tensorboard.
        name: of the destination: each has its own file.
        destination: what is exported there, in words; it must not change.

    Raises:
        ExportError: if another process exports to it, or an earlier export under this name went elsewhere.
        RecordError: if the file cannot be read or written.
    """
    short = re.sub(r"[^A-Za-z0-9._-]", "_", name)[-60:].lstrip(".")
    path = folder / FOLDER / f"{kind}-{short}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"
    with try_lock(path.with_suffix(".lock")) as lock:
        if not lock:
            raise ExportError(f"{path}: another export to this destination is running")
        record = read_record(path, MarksRecord) or MarksRecord(destination=destination)
        if record.destination != destination:
            raise ExportError(f"{path}: earlier rows went to {record.destination}; go on there, or choose another name")
        yield Marks(path, record)
