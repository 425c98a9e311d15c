"""Other people's notebooks and other people's runs: tidy tables and rliable's arrays out, long CSV in."""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from analysis.load import ReportError, Score, load_results
from analysis.traces import IMPORTED
from scorer_core.records import replace_file, write_json

TYPES = {"variant": pa.string(), "task": pa.string(), "seed": pa.int64(), "step": pa.int64(), "return": pa.float64()}
LONG = pa.schema(list(TYPES.items()))


def export(
    folder: Path, to: Path | None = None, overrides: Sequence[str] = (), problems: list[str] | None = None
) -> list[Path]:
    """Write a sweep's results for other tools, under `folder`/report/export unless told where.

    `overrides` are of its definition (analysis/load.py). What cannot be read is appended to `problems`.

    runs.csv, runs.parquet      a row a run: variant, task, seed, status, scores, code
    curves.csv, curves.parquet  a row a logged step of a finished run: variant, task, seed, step, return
    scores.npz                  for each score, what rliable's functions take: `final/<variant>`, runs x tasks, of
                                the seeds that have every task; `tasks` names the columns

    Raises:
        ReportError, RecordError: as `make_report`.
    """
    results = load_results(folder, overrides=overrides)
    if problems is not None:
        problems += results.problems
    to = to or folder / "report" / "export"
    rows = [
        {
            "variant": run.variant,
            "task": run.task,
            "seed": run.seed,
            "run_id": run.run_id,
            "status": run.status,
            "code": run.code,
            **{score: None if np.isnan(value) else value for score, value in run.scores.items()},
        }
        for run in results.runs
    ]
    written = _both(to / "runs", pa.Table.from_pylist(rows))
    keys = list(results.series)
    curves = {
        name: np.repeat([key[place] for key in keys], len(results.steps)) for place, name in enumerate(LONG.names[:3])
    }
    curves["step"] = np.tile(results.steps, len(keys))
    curves["return"] = np.concatenate([results.series[key][0] for key in keys]) if keys else np.array([])
    columns = [pa.array(curves[name], TYPES[name]) for name in TYPES]
    written += _both(to / "curves", pa.Table.from_arrays(columns, schema=LONG))
    sink = pa.BufferOutputStream()
    arrays = _rliable_arrays(results.tasks, {score: results.scores(score) for score in get_args(Score)})
    np.savez(sink, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType], names are not `allow_pickle`
    replace_file(to / "scores.npz", sink.getvalue())
    return [*written, to / "scores.npz"]


def _rliable_arrays(tasks: list[str], scores: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    arrays = {"tasks": np.array(tasks)}
    for score, matrices in scores.items():
        for variant, matrix in matrices.items():
            arrays[f"{score}/{variant}"] = matrix[np.isfinite(matrix).all(axis=1)]
    return arrays


def _both(stem: Path, table: pa.Table) -> list[Path]:
    for suffix in ("csv", "parquet"):
        sink = pa.BufferOutputStream()
        if suffix == "csv":
            pyarrow.csv.write_csv(table, sink)
        else:
            pq.write_table(table, sink, compression="zstd")
        replace_file(stem.with_suffix(f".{suffix}"), sink.getvalue())
    return [stem.with_suffix(".csv"), stem.with_suffix(".parquet")]


@dataclass(frozen=True)
class Columns:
    """What the columns of a CSV are called; `variant` or `task` may be a fixed value instead, written `=value`."""

    variant: str = "variant"
    task: str = "task"
    seed: str = "seed"
    step: str = "step"
    score: str = "return"


def import_runs(folder: Path, source: Path, columns: Columns | None = None) -> dict[str, int]:
    """Put runs from a CSV in long format (a row a run and step) beside a sweep's own, in every figure and table.

    They are kept under `folder`/imported with the hash of the file they came from. Importing a file of the same name
    again replaces what it brought.

    Returns:
        Runs by variant.

    Raises:
        ReportError: if a column is missing, a value is no number, a row stands twice, a task is not the sweep's, or a
            variant has the name of another; the message names the file and the line.
    """
    columns = columns or Columns()
    results = load_results(folder)
    try:
        content = source.read_bytes()
        lines = list(csv.DictReader(content.decode().splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{source}: cannot be read: {error}") from None
    if not lines:
        raise ReportError(f"{source}: holds no row")
    rows: dict[tuple[str, str, int, int], float] = {}
    for number, line in enumerate(lines, start=2):
        key, value = _row(line, columns, f"{source}, line {number}")
        if key in rows:
            raise ReportError(
                f"{source}, line {number}: {key[0]} on {key[1]}, seed {key[2]}, step {key[3]} stands twice"
            )
        rows[key] = value
    strange = sorted({task for _, task, _, _ in rows} - set(results.sweep.tasks))
    if strange:
        raise ReportError(
            f"{source}: {', '.join(strange)}: not a task of this sweep ({', '.join(results.sweep.tasks)})"
        )
    elsewhere = {run.variant for run in results.runs if run.code != _origin(source)}
    taken = sorted({variant for variant, _, _, _ in rows} & elsewhere)
    if taken:
        raise ReportError(f"{source}: {', '.join(taken)}: already the name of a variant here; rename it in the file")
    table = pa.Table.from_pylist([dict(zip(LONG.names, (*key, rows[key]), strict=True)) for key in sorted(rows)], LONG)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    kept = folder / IMPORTED / source.stem
    replace_file(kept.with_suffix(".parquet"), sink.getvalue())
    write_json(kept.with_suffix(".json"), {"source": source.name, "sha256": hashlib.sha256(content).hexdigest()})
    runs = {key[:3] for key in rows}
    return {name: sum(run[0] == name for run in runs) for name in dict.fromkeys(key[0] for key in rows)}


def _origin(source: Path) -> str:
    return f"imported from {source.name}"


def _row(line: Mapping[str, str], columns: Columns, where: str) -> tuple[tuple[str, str, int, int], float]:
    def text(column: str) -> str:
        if column.startswith("="):
            return column[1:]
        if line.get(column) in (None, ""):
            raise ReportError(f"{where}: nothing in column '{column}'; the columns are {', '.join(filter(None, line))}")
        return line[column].strip()

    def number(column: str) -> float:
        try:
            value = float(text(column))
        except ValueError:
            raise ReportError(f"{where}: {text(column)!r} in column '{column}' is no number") from None
        if not np.isfinite(value):
            raise ReportError(f"{where}: {text(column)!r} in column '{column}' is not finite")
        return value

    key = text(columns.variant), text(columns.task), int(number(columns.seed)), int(number(columns.step))
    return key, number(columns.score)
