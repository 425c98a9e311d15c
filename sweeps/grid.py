"""The run ids of a sweep without building their configurations: an index that scorer can rebuild at any time."""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from scorer_core import config, identity, registry
from scorer_core.record_forms import read_record
from scorer_core.support.errors import RecordError
from scorer_core.support.files import write_json
from sweeps import ablation, cells, definition, expansion, loading, old_names, reading
from sweeps.cells import Run

INDEX = "index.json"
DEFINITIONS = (ablation, cells, definition, expansion, loading, old_names, reading)
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


class Index(BaseModel):
    """submissions/index.json"""

    of: str  # SHA-256 of the files that it was made from
    name: str
    question: str
    runs: list[GridRun]


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
            return Grid(known.name, known.question, known.runs)
    sweep = loading.load_submitted(folder)
    runs: dict[str, GridRun] = {}
    for run in sweep.runs:
        runs.setdefault(run.run_id, grid_run(run))
    with suppress(RecordError):  # without write permission, every call builds the grid
        write_json(index, {"of": digest, "name": sweep.name, "question": sweep.question, "runs": list(runs.values())})
    return Grid(sweep.name, sweep.question, list(runs.values()))
