"""Export a sweep's results for other tools: tables of runs and curves, and score arrays for rliable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from analysis.load import Results, Score, load_results
from analysis.statistics import complete_rows
from scorer_core.support.files import replace_file

KEY = [("variant", pa.string()), ("task", pa.string()), ("seed", pa.int64())]
SCORES: tuple[Score, ...] = get_args(Score)
RUNS = pa.schema(
    [
        *KEY,
        ("run_id", pa.string()),
        ("status", pa.string()),
        ("code_version", pa.string()),
        *((score, pa.float64()) for score in SCORES),
    ]
)
CURVES = pa.schema([*KEY, ("step", pa.int64()), ("return", pa.float64())])


@dataclass(frozen=True)
class Exported:
    """The files that `export` wrote."""

    files: list[Path]
    curves: int  # runs in the table of curves: finished, and with a return
    problems: tuple[str, ...]  # records that could not be read


def export(folder: Path, to: Path | None = None, overrides: Sequence[str] = ()) -> Exported:
    """Write a sweep's results into `to` (default: `folder`/report/export). A sweep without a finished run has no rows.

    runs.csv, runs.parquet      one row per run: variant, task, seed, run_id, status, code_version and each score
    curves.csv, curves.parquet  one row per step of each finished run: variant, task, seed, step, return
    scores.npz                  score matrices for rliable, `num_runs x num_tasks`, named `<score>/<variant>`, e.g.
                                `final/scorer`; a row is a seed with a score on every task; `tasks` names the columns

    Args:
        folder: outputs/<sweep>.
        to: the folder to write to.
        overrides: KEY=VALUE changes of the sweep's definition (analysis/load.py).

    Raises:
        ReportError: if there is no readable definition.
        RecordError: if a file cannot be written.
    """
    results = load_results(folder, overrides=overrides)
    to = to or folder / "report" / "export"
    rows = [
        {
            "variant": run.variant,
            "task": run.task,
            "seed": run.seed,
            "run_id": run.run_id,
            "status": run.status,
            "code_version": run.code_version,
            **{score: None if np.isnan(value) else value for score, value in run.scores.items()},
        }
        for run in results.runs
    ]
    written = _both(to, "runs", pa.Table.from_pylist(rows, RUNS))
    written += _both(to, "curves", _curves(results))
    sink = pa.BufferOutputStream()
    arrays = _rliable_arrays(results.tasks, {score: results.scores(score) for score in SCORES})
    np.savez(sink, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType], names are not `allow_pickle`
    replace_file(to / "scores.npz", sink.getvalue())
    return Exported([*written, to / "scores.npz"], len(results.series), results.problems)


def _curves(results: Results) -> pa.Table:
    tables = [CURVES.empty_table()]
    for (variant, task, seed), series in results.series.items():
        steps, returns = series.steps[series.valid], series.values[0][series.valid]
        cell = zip((variant, task, seed), KEY, strict=True)
        key = [pa.repeat(pa.scalar(value, kind), len(steps)) for value, (_, kind) in cell]
        tables.append(pa.Table.from_arrays([*key, pa.array(steps), pa.array(returns, pa.float64())], schema=CURVES))
    return pa.concat_tables(tables)


def _rliable_arrays(tasks: list[str], scores: Mapping[Score, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    arrays = {"tasks": np.array(tasks)}
    for score, matrices in scores.items():
        for variant, matrix in matrices.items():
            arrays[f"{score}/{variant}"] = complete_rows(matrix)
    return arrays


def _both(folder: Path, name: str, table: pa.Table) -> list[Path]:
    for suffix in ("csv", "parquet"):
        sink = pa.BufferOutputStream()
        if suffix == "csv":
            pyarrow.csv.write_csv(table, sink)
        else:
            pq.write_table(table, sink, compression="zstd")
        replace_file(folder / f"{name}.{suffix}", sink.getvalue())
    return [folder / f"{name}.csv", folder / f"{name}.parquet"]
