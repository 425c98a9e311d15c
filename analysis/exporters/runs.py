"""The runs of a sweep and their committed rows, for experiment trackers."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.load import Results, RunRow, load_results
from scorer_core.config import RunConfig
from scorer_core.metrics import MEASURED, METRICS
from scorer_core.provenance import read_provenance
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError

COLUMNS = (*METRICS, "diverged", *MEASURED)


@dataclass(frozen=True)
class Cell:
    """One run of the sweep as a tracker knows it: a variant on a task with a seed.

    Attributes:
        key: the run id. Where two variants share a run, the second one's key ends with -2, and so on.
    """

    key: str
    sweep: str
    row: RunRow
    config: RunConfig

    @property
    def finished(self) -> bool:
        return self.row.status in ("done", "diverged")


@dataclass(frozen=True)
class TrackedRun:
    """One run with all its committed rows."""

    cell: Cell
    provenance: dict[str, Any]  # of the pack's last attempt
    started: float  # when the first attempt started, in seconds since 1970; 0 if that is not known
    table: pa.Table  # `step` and COLUMNS, by step
    lanes: int  # runs in the pack

    @cached_property
    def steps(self) -> np.ndarray:
        """Environment steps: int64, num_rows."""
        return self.table["step"].to_numpy()

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """The logged values by column: float32, num_rows."""
        return {name: self.table[name].to_numpy().astype(np.float32) for name in COLUMNS}

    @cached_property
    def times(self) -> np.ndarray:
        """When each row was logged, in seconds since 1970: float64, num_rows.

        The sum of the training time that the logged speeds give; pauses between attempts are left out.
        """
        speeds = self.columns["steps_per_second"].astype(float)
        steps = np.diff(self.steps, prepend=0) * self.lanes
        seconds = np.divide(steps, speeds, out=np.zeros(len(steps)), where=np.isfinite(speeds) & (speeds > 0))
        return self.started + np.cumsum(seconds)

    def fingerprint(self, rows: int) -> str:
        """A hash of the first `rows` rows, of columns that a resumed run repeats and every version logs."""
        digest = hashlib.sha256(self.steps[:rows].tobytes())
        for name in ("return", "episodes", "td_error", "msbe"):
            digest.update(self.columns[name][:rows].tobytes())
        return digest.hexdigest()[:16]


def load_cells(folder: Path, overrides: Sequence[str] = ()) -> tuple[Results, list[Cell]]:
    """The results of a sweep, and its runs that have a committed row; imported runs are left out.

    Raises:
        ReportError: if there is no readable definition.
    """
    results = load_results(folder, overrides=overrides)
    shared: dict[str, int] = {}
    cells = []
    for row in results.runs:
        if row.config is None:
            continue
        number = shared[row.run_id] = shared.get(row.run_id, 0) + 1
        if row.folder is not None:
            key = row.run_id if number == 1 else f"{row.run_id}-{number}"
            cells.append(Cell(key, results.sweep.name, row, row.config))
    return results, cells


def read_runs(cells: Sequence[Cell], problems: list[str]) -> Iterator[TrackedRun]:
    """The runs with their rows, one pack in memory at a time.

    A pack that cannot be read any more is left out, and a line on it is appended to `problems`.
    """
    packs: dict[Path, list[Cell]] = {}
    for cell in cells:
        if cell.row.folder is not None:
            packs.setdefault(cell.row.folder, []).append(cell)
    for path, inside in packs.items():
        pack = PackFolder(path)
        try:
            table = pack.rows(COLUMNS, {cell.row.run_id for cell in inside})
            lanes, provenance, started = len(pack.run_ids()), pack.provenance(), _started(pack)
        except RecordError as error:
            problems.append(f"{error}; its runs are left out")
            continue
        owners = table["run_id"].to_numpy(zero_copy_only=False)
        for cell in inside:
            rows = np.flatnonzero(owners == cell.row.run_id)
            if rows.size:  # the rows of a run are one block
                mine = table.slice(int(rows[0]), rows.size)
                yield TrackedRun(cell, provenance, started, mine, lanes)


def _started(pack: PackFolder) -> float:
    for attempt in pack.attempts():
        if started := read_provenance(attempt).get("started"):
            return datetime.fromisoformat(started).timestamp()
    return 0.0
