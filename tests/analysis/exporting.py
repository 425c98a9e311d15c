"""Sweeps that grow while they are exported, and exports in a process of their own, which a test may kill."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.exporters.names import NAMES
from scorer_core.pack_folders import pack_folders
from sweeps.cells import Run
from sweeps.loading import load_submitted
from tests.analysis.synthetic import logged_steps, make_sweep, rising_return, rows

ROOT = Path(__file__).parents[2]
SMALL = {"tasks": ["minatar/breakout"], "seeds": 2, "variants": {"dqn": {"coupling": "monolithic"}, "scorer": {}}}

# Ends as if by `kill -9`, before the call with this number of a function.
KILLED = """
import importlib, os, signal, sys
from cli import main
module, name, number = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
owner = importlib.import_module(module)
*path, name = name.split(".")
for part in path:
    owner = getattr(owner, part)
function, calls = getattr(owner, name), []
def counted(*arguments, **options):
    calls.append(1)
    if len(calls) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments, **options)
setattr(owner, name, counted)
main.main()
"""


def returns(run: Run, steps: np.ndarray) -> np.ndarray:
    """A curve without a value at the first two log points."""
    values = rising_return(run, steps)
    values[:2] = np.nan
    return values


def half_trained(outputs: Path, **options: Any) -> Path:
    """A sweep of four runs, each with 10 of its 20 rows."""
    return make_sweep(outputs, SMALL, curve=returns, unfinished=lambda _: True, **options)


def train_on(folder: Path, diverged: Callable[[Run], bool] = lambda _: False) -> None:
    """Commit the other rows of a `half_trained` sweep, and finish its packs."""
    by_id = {run.run_id: run for run in load_submitted(folder).runs}
    for pack in pack_folders(folder / "packs"):
        runs = [by_id[run_id] for run_id in pack.run_ids()]
        tables = []
        for run in runs:
            steps = logged_steps(run.config)
            blown = np.full(10, diverged(run))
            tables.append(rows(run.config, steps[10:], returns(run, steps)[10:], blown))
        pack.commit(100_000, pa.concat_tables(tables).unify_dictionaries(), b"state")
        pack.finish({r.run_id: {"status": "diverged" if diverged(r) else "done", "verdicts": []} for r in runs})


def stored_rows(folder: Path) -> dict[str, list[dict[str, float]]]:
    """What Parquet has of each run: rows with the names of trackers, without NaN."""
    found: dict[str, list[dict[str, float]]] = {}
    for pack in pack_folders(folder / "packs"):
        for row in pack.rows(list(NAMES)).to_pylist():
            values = {name: float(row[column]) for column, name in NAMES.items() if not np.isnan(row[column])}
            found.setdefault(row["run_id"], []).append({"global_step": row["step"], **values})
    return found


def without_own(row: dict[str, Any]) -> dict[str, Any]:
    """A row of W&B without what its client adds."""
    return {name: value for name, value in row.items() if not name.startswith("_")}


def environment(home: Path, **variables: str) -> dict[str, str]:
    """That of a user with this home, and without W&B's variables."""
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    (home / "tmp").mkdir(exist_ok=True)
    names = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    own = {"HOME": str(home), "TMPDIR": str(home / "tmp"), **{name: str(home / name) for name in names}}
    return kept | own | {"PYTHONPATH": str(ROOT)} | variables


def export(folder: Path, *words: object, env: dict[str, str], killed: tuple[str, str, int] | None = None) -> str:
    """Run `scorer export` on a sweep; what it prints. If `killed`, it must be: module, function, number of the call."""
    program = ["-c", KILLED, *map(str, killed)] if killed else ["-m", "cli.main"]
    command = [sys.executable, *program, "export", str(folder), *map(str, words)]
    done = subprocess.run(command, env=env, cwd=folder.parent, capture_output=True, text=True)
    assert done.returncode == (-9 if killed else 0), done.stdout + done.stderr
    return done.stdout + done.stderr


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
