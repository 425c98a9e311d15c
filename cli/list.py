"""`scorer list`: all sweeps and searches in the folder of outputs, on one screen."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.progress import track

from cli.console import DEFAULT_OUTPUTS, err, out, print_json, table
from cli.help import App
from cli.options import AsJson, Outputs
from cli.plan import print_problems
from scorer_core.support.commands import command_on
from scorer_core.support.errors import RecordError
from scorer_core.support.text import count, duration
from slurm.status import SweepStatus, read_status
from sweeps.errors import DefinitionError
from sweeps.folders import is_sweep_folder

app = App()
FAILED_STATES = ("failed", "lost", "damaged", "cancelled", "diverged")
CHANGING = ("state.json", "done.json")  # of a pack, at each heartbeat and at its end


@app.command("list", epilog="Example: scorer list")
def list_sweeps(outputs: Outputs = DEFAULT_OUTPUTS, as_json: AsJson = False) -> None:
    """List all sweeps and searches in the folder of outputs: their runs by state, last change and jobs in the queue.

    The newest is first; `jobs` are those in the queue. Failed are all runs that ended without a result: failed, lost,
    damaged, cancelled, diverged.
    """
    folders = [path for path in sorted(outputs.glob("*/")) if is_sweep_folder(path) or (path / "search.yaml").exists()]
    rows, problems = [], []
    for folder in track(folders, "Reading", console=err, transient=True, disable=not err.is_terminal):
        try:
            status = read_status(folder, accounting=False, tolerant=True)
            rows.append(_row(folder, status))
            unread = len(status.problems) + sum(bool(pack.damage) for pack in status.packs.values())
            if unread:
                problems.append(f"{folder.name}: {count(unread, 'damaged record')}; {command_on('status', folder)}")
        except (RecordError, DefinitionError) as error:
            problems.append(str(error))
    rows.sort(key=lambda row: -row["changed"])
    if as_json:
        return print_json({"sweeps": rows, "problems": problems})
    if not rows:
        out.print(f"No sweep in {outputs}. Start one with: scorer run quickstart")
    else:
        shown = table("name", "runs", "done", "running", "pending", "failed", "changed", "jobs")
        for row in rows:
            ago = f"{duration(max(0.0, time.time() - row['changed']))} ago"
            numbers = [f"{row[key]:,}" if row[key] else "–" for key in ("done", "running", "pending", "failed")]
            runs = "search" if row["search"] else f"{row['runs']:,}"
            shown.add_row(row["name"], runs, *numbers, ago, row["scheduler"] or str(row["jobs"] or "–"))
        out.print(shown)
        if any(row["search"] for row in rows):
            out.print("Of a search, only trained runs are counted. See its trials: scorer search show NAME")
    return print_problems(problems)


def _row(folder: Path, status: SweepStatus) -> dict[str, Any]:
    search = (folder / "search.yaml").exists()
    states = Counter(cell.state for cell in status.cells)
    if search:
        states = Counter(pack.state_of(run_id) for pack in status.packs.values() for run_id in pack.run_ids)
    return {
        "name": folder.name,
        "search": search,
        "runs": states.total(),
        "done": states["done"],
        "running": states["running"],
        "pending": states["pending"],
        "failed": sum(states[state] for state in FAILED_STATES),
        "changed": max(_changes(folder, status), default=0.0),
        "jobs": sum(pack.queued is not None for pack in status.packs.values()) + len(status.report_jobs),
        "scheduler": "not known" if status.scheduler_error else "",
    }


def _changes(folder: Path, status: SweepStatus) -> Iterator[float]:
    """When its definition and its packs changed."""
    definitions = [folder / "sweep.yaml", folder / "search.yaml"]
    for path in (*definitions, *(pack.folder.path / name for pack in status.packs.values() for name in CHANGING)):
        if path.exists():
            yield path.stat().st_mtime
