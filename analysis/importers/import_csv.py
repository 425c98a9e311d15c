"""Import runs of other tools into a sweep: one Parquet file per imported CSV file, in the sweep's folder."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.exporters.tables import CURVES
from analysis.importers.csv_runs import Columns, RunsInFile, read_runs
from analysis.load import ReportError, read_sweep
from analysis.run_metrics import IMPORT_KEY, IMPORTED, RunMetrics, read_imported
from scorer_core.support.errors import RecordError
from scorer_core.support.files import replace_file

Run = tuple[str, str, int]  # variant, task, seed


@dataclass(frozen=True)
class Imported:
    """The runs of one imported file."""

    source: Path
    read_as: str  # the format of the file, and where each field comes from
    runs: dict[str, int]  # by variant
    replaced: list[Run]  # runs of an earlier import of the same file
    notes: list[str]  # what was left out


def import_runs(folder: Path, sources: Sequence[Path], columns: Columns | None = None) -> list[Imported]:
    """Add the runs of CSV files (csv_runs.py) to the figures and tables of the sweep in `folder`: all files or none.

    The runs of a file are stored under `folder`/imported. A second import of the same path replaces them.

    Raises:
        ReportError: if a file cannot be understood, a variant has the name of one of the sweep's own, or a run was
            imported from another file; the message names the file, the line and what to do.
        RecordError: if a file cannot be written; nothing is imported then.
    """
    sweep = read_sweep(folder)
    own = {variant.name for variant in sweep.grid_variants}
    known = read_imported(folder, [])
    targets: dict[Path, Path] = {}  # the file that stores the runs -> the imported file
    holders: dict[Run, Path] = {}
    found: list[tuple[Path, RunsInFile, set[Run]]] = []
    for source in sources:
        target = _target(folder, source)
        if target in targets:
            raise ReportError(f"{source}: given twice")
        targets[target] = source
        read = read_runs(source, columns or Columns(), sweep.tasks)
        runs = {row[:3] for row in read.rows}
        for run in sorted(runs):
            if run[0] in own:
                raise ReportError(
                    f"{source}: the sweep has a variant {run[0]}; rename it in the file, or use --variant =NAME"
                )
            if run in holders:
                raise ReportError(
                    f"{source}: {_run_text(run)} is also in {holders[run]}; give each file its own seed (--seed =N) or "
                    "variant (--variant =NAME)"
                )
            holders[run] = source
        found.append((source, read, runs))

    before = {run: metrics for run, metrics in known.items() if metrics.folder not in targets}
    outdated = _outdated(before, found)
    for source, _, runs in found:
        for run in sorted(runs & before.keys()):
            if before[run].folder not in outdated:
                raise ReportError(
                    f"{source}: {_run_text(run)} was {before[run].code_version}; to import it again, delete "
                    f"{before[run].folder}; otherwise give another seed (--seed =N) or variant (--variant =NAME)"
                )
    _write_all({_target(folder, source): _parquet(source, read) for source, read, _ in found})
    for path in outdated:
        with suppress(OSError):
            path.unlink()
            path.with_name(f"{path.stem}.json").unlink()
    replaced = {
        path: [run for run, metrics in known.items() if metrics.folder == path] for path in (*targets, *outdated)
    }
    return [
        Imported(
            source,
            read.read_as,
            {name: sum(run[0] == name for run in runs) for name in sorted({run[0] for run in runs})},
            [
                *replaced[_target(folder, source)],
                *(run for path in outdated if path.stem == source.stem for run in replaced[path]),
            ],
            read.notes,
        )
        for source, read, runs in found
    ]


def _run_text(run: Run) -> str:
    return f"{run[0]} on {run[1]}, seed {run[2]}"


def _target(folder: Path, source: Path) -> Path:
    """The file that stores the runs of `source`. Its name depends on the whole path of `source`."""
    path_hash = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:12]
    return folder / IMPORTED / f"{source.stem[:60]}-{path_hash}.parquet"


def _outdated(before: Mapping[Run, RunMetrics], found: Sequence[tuple[Path, RunsInFile, set[Run]]]) -> set[Path]:
    """Files that version 0.1 stored and whose runs are all imported again; it named them by the file name only."""
    outdated = set()
    for source, _, runs in found:
        old = {
            run: metrics for run, metrics in before.items() if metrics.code_version == f"imported from {source.name}"
        }
        if old and old.keys() <= runs:
            outdated |= {metrics.folder for metrics in old.values()}
    return outdated


def _parquet(source: Path, read: RunsInFile) -> pa.Buffer:
    path = source.resolve()
    origin = {"source": "/".join(path.parts[-2:]), "path": str(path), "sha256": read.sha256}
    ordered = sorted(read.rows)
    columns = [*zip(*ordered, strict=True), [read.rows[row] for row in ordered]]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, CURVES.types, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=CURVES.with_metadata({IMPORT_KEY: json.dumps(origin)}))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def _write_all(files: Mapping[Path, pa.Buffer]) -> None:
    """Write every file; if one cannot be written, restore the previous files."""
    before = {path: path.read_bytes() if path.exists() else None for path in files}
    try:
        for path, content in files.items():
            replace_file(path, content)
    except RecordError:
        for path, content in before.items():
            with suppress(OSError, RecordError):
                path.unlink(missing_ok=True) if content is None else replace_file(path, content)
        raise
