"""The run ids of a sweep without building their configurations: an index that scorer can rebuild at any time."""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from scorer_core import config, identity, registry
from scorer_core.record_forms import read_record
from scorer_core.support.errors import RecordError
from scorer_core.support.files import replace_file
from sweeps import ablation, cells, definition, expansion, loading, old_names, ranges, reading
from sweeps.cells import Run
from sweeps.definition import Sweep

INDEX = "index.json"
DEFINITIONS = (ablation, cells, definition, expansion, loading, old_names, ranges, reading)
# Another version of these files may give a run another id or name.
IDENTITY = [Path(module.__file__ or "") for module in (config, identity, registry, *DEFINITIONS)]


class GridRun(NamedTuple):
    """One run of a sweep: its id and its cell of the grid."""

    run_id: str
    variant: str
    base_name: str
    task: str
    seed: int


def grid_run(run: Run) -> GridRun:
    """The id and the cell of `run`."""
    return GridRun(run.run_id, run.variant.name, run.variant.base_name, run.config.task, run.config.seed)


class IndexedCell(BaseModel):
    """The runs of a variant on a task; a run that an earlier cell has is left out."""

    variant: str
    base_name: str
    task: str
    run_ids: list[str]
    seeds: list[int]


class Index(BaseModel):
    """submissions/index.json"""

    of: str  # SHA-256 of the files that it was made from
    name: str
    question: str
    cells: list[IndexedCell]

    @property
    def grid(self) -> "Grid":
        runs = [
            GridRun(run_id, cell.variant, cell.base_name, cell.task, seed)
            for cell in self.cells
            for run_id, seed in zip(cell.run_ids, cell.seeds, strict=True)
        ]
        return Grid(self.name, self.question, runs)


class Grid(NamedTuple):
    """The runs of a sweep."""

    name: str
    question: str
    runs: list[GridRun]  # each run once, in the order of the definition


def grid(folder: Path) -> Grid:
    """The grid of the frozen definition in `folder` (outputs/<sweep>).

    Raises:
        RecordError: if nothing was submitted there.
        DefinitionError: if the definition cannot be read.
    """
    written = folder / "sweep.yaml"
    try:
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in (written, *IDENTITY))).hexdigest()
    except OSError as error:
        raise RecordError(f"{written}: cannot be read: {error.strerror}") from None
    index = folder / "submissions" / INDEX
    with suppress(RecordError):
        known = read_record(index, Index)
        if known and known.of == digest:
            return known.grid
    sweep = loading.load_submitted(folder)
    made = Index(of=digest, name=sweep.name, question=sweep.question, cells=_cells(sweep))
    with suppress(RecordError):  # without write permission, every call builds the grid
        replace_file(index, made.model_dump_json().encode())
    return made.grid


def _cells(sweep: Sweep) -> list[IndexedCell]:
    found: list[IndexedCell] = []
    known: set[str] = set()
    for variant, task, runs in sweep.runs_by_cell():
        new = [run for run in runs if run.run_id not in known]
        run_ids, seeds = [run.run_id for run in new], [run.config.seed for run in new]
        known.update(run_ids)
        found.append(
            IndexedCell(variant=variant.name, base_name=variant.base_name, task=task, run_ids=run_ids, seeds=seeds)
        )
    return found
