"""`scorer status`."""

import time
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from cli import usage_view
from cli.console import DEFAULT_OUTPUTS, out, print_json
from cli.filters import make_filter
from cli.help import App
from cli.options import AsJson, Everything, Outputs, Seeds, States, SweepArgument, Tasks, Variants
from cli.status_view import status_json, status_notes, status_table
from cli.sweep_argument import submitted_folder
from scorer_core.support.commands import shown_path
from slurm.cluster.usage import usage as read_usage
from slurm.status import SweepStatus, read_status
from sweeps.left_out import OnDisk, left_out
from sweeps.loading import load_submitted

app = App()
WATCH_SECONDS = 30.0  # between two calls of squeue

HELP = """Show the state of every run and what needs attention.

Reads files and calls squeue once. The states, and the command that continues runs in each:

\b
State      Meaning                                   To continue
done       finished                                  report
diverged   finished, with NaN or infinite values     report
running    training
pending    in the queue                              (if held: resume)
failed     ended with an error                       logs, then retry
lost       killed, or out of time                    resume, submit or retry
damaged    a file cannot be read                     clean --state damaged,
                                                     then resume
cancelled  by scorer cancel                          resume or retry
unknown    Slurm did not respond, or the job has     status, again later
           just ended
missing    not submitted, or rejected by Slurm       submit

resume uses the code that was submitted; submit and retry use the current code. For runs that `scorer run` started,
repeat `scorer run` instead."""


@app.command(help=HELP, epilog="Example: scorer status ratio --watch --state running --state failed")
def status(
    sweep: SweepArgument,
    outputs: Outputs = DEFAULT_OUTPUTS,
    watch: Annotated[
        bool, typer.Option("-w", "--watch", help="Update every 30 s until no run is running or pending.")
    ] = False,
    variants: Variants = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    states: States = None,
    usage: Annotated[
        bool, typer.Option("--usage", help="Show memory and time that jobs used, and values for the next profile.")
    ] = False,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    folder = submitted_folder(sweep, outputs)
    wanted = make_filter(variants, tasks, seeds, states)
    left: list[str] = []

    def read(accounting: bool) -> SweepStatus:
        found = read_status(folder, accounting, tolerant=True)
        left[:] = _left_out(found)
        chosen = wanted.among(cell.run for cell in found.cells)
        if not chosen.empty:
            found.cells = [cell for cell in found.cells if chosen.matches_run(cell)]
        return found

    found = read(accounting=not watch and not usage)
    if usage:
        used = read_usage(found)
        return print_json(usage_view.usage_json(found, used)) if as_json else usage_view.print_usage(found, used)
    if as_json:
        return print_json(status_json(found) | {"left_out": left}, indent=None)
    if not watch:
        out.print(status_table(found, everything))
        for line in status_notes(found):
            out.print(line)
        for line in left:
            out.print(f"note: {line}")
        return None
    with Live(_watched(found, left, everything), console=out, auto_refresh=False) as live:
        try:
            while any(cell.state in ("running", "pending", "unknown") for cell in found.cells):
                time.sleep(WATCH_SECONDS)
                found = read(accounting=False)
                live.update(_watched(found, left, everything), refresh=True)
        except KeyboardInterrupt:
            return None
    return None


def _left_out(found: SweepStatus) -> list[str]:
    """Lines on runs on disk that are not in the submitted definition; `found` has the runs of all states."""
    packs = [OnDisk(pack.folder, pack.run_ids, bool(pack.done)) for pack in found.packs.values() if not pack.damage]
    wanted = [cell.run.run_id for cell in found.cells]
    source = shown_path(found.folder / "sweep.yaml")
    return left_out(found.folder, packs, wanted, lambda: load_submitted(found.folder), source)


def _watched(found: SweepStatus, left: list[str], everything: bool) -> Group:
    lines = [*status_notes(found), *(Text(f"note: {line}") for line in left)]
    for line in lines:  # a line longer than the screen would put the next frame in the wrong place
        line.no_wrap, line.overflow = False, "fold"
    return Group(status_table(found, everything), *lines)
