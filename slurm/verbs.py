"""Verbs on where it runs: status, logs, cancel, clean; and those that submit."""

import time
from collections.abc import Collection
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live

from scorer_core.commands import command_on
from slurm import cleaning, following, scheduler, screen, verbs_submit
from slurm.asking import answered, submitted
from slurm.board import Board, board
from slurm.filters import Filter, Seeds, States, Tasks, Variants, make_filter
from slurm.submission import alone
from slurm.verbs_profile import profile_app
from sweeps.terminal import (
    DEFAULT_OUTPUTS,
    FAILED,
    AsJson,
    Outputs,
    SweepArgument,
    count,
    out,
    print_json,
    stop,
)

app = typer.Typer()
app.add_typer(verbs_submit.app)
app.add_typer(profile_app, name="profile")

WATCH_SECONDS = 30.0  # between two questions to Slurm
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]


@app.command(epilog="Example: scorer status ratio --watch --state running --state failed")
def status(
    sweep: SweepArgument,
    outputs: Outputs = DEFAULT_OUTPUTS,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Again every 30 s, until nothing runs or waits.")
    ] = False,
    variants: Variants = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    states: States = None,
    as_json: AsJson = False,
) -> None:
    """Show where every run stands, and what needs attention; from the files and one question to Slurm."""
    folder = submitted(sweep, outputs)
    wanted = make_filter(variants, tasks, seeds, states)

    def look(accounting: bool) -> Board:
        found = board(folder, accounting)
        found.cells = [cell for cell in found.cells if wanted.takes_cell(cell)]
        return found

    found = look(accounting=not watch)
    if as_json:
        return print_json(screen.as_json(found), indent=None)
    if not watch:
        out.print(screen.standing(found))
        for line in screen.remarks(found):
            out.print(line)
        return None
    with Live(_watched(found), console=out, auto_refresh=False) as live:
        try:
            while any(cell.state in ("running", "pending", "unknown") for cell in found.cells):
                time.sleep(WATCH_SECONDS)
                found = look(accounting=False)
                live.update(_watched(found), refresh=True)
        except KeyboardInterrupt:
            return None
    return None


@app.command(epilog="Example: scorer logs 3f2a -f  (any unique beginning of a run's or a pack's id)")
def logs(
    name: Annotated[str, typer.Argument(metavar="RUN_OR_PACK")],
    outputs: Outputs = DEFAULT_OUTPUTS,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it is written, over attempts too.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="This one; else the last.")] = None,
) -> None:
    """Print what a pack's last attempt said; of one that never came so far, what its job said."""
    pack = following.find(outputs, name)
    following.show(pack, attempt, follow)


@app.command(epilog="Example: scorer cancel ratio --variant 'scorer ratio=0.5' -y")
def cancel(
    sweep: SweepArgument,
    outputs: Outputs = DEFAULT_OUTPUTS,
    variants: Variants = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    states: States = None,
    yes: Yes = False,
) -> None:
    """Stop what runs and take what waits from the queue; what was committed stays, and `scorer resume` goes on."""
    folder = submitted(sweep, outputs)
    wanted = make_filter(variants, tasks, seeds, states)
    with alone(folder):
        found = board(folder, accounting=False)
        if found.silence:
            stop(f"Slurm does not answer, nothing was cancelled: {found.silence}", FAILED)
        packs = _packs(found, wanted, ("running", "pending"))
        packs = {name: pack for name, pack in packs.items() if pack.submission}
        if not packs:
            return out.print("Nothing of this runs or waits.")
        _ask(f"Cancel {_count(found, packs, wanted)}?", yes)
        for pack in packs.values():
            pack.folder.mark_cancelled(True)
        jobs = [pack.queued for pack in packs.values() if pack.queued and pack.queued.job]
        answered(lambda: scheduler.cancel(jobs))
    return out.print(f"{count(len(packs), 'pack')} cancelled. To go on: {command_on('resume', folder)}")


@app.command(epilog="Example: scorer clean ratio    or: scorer clean ratio --state failed")
def clean(
    sweep: SweepArgument,
    outputs: Outputs = DEFAULT_OUTPUTS,
    variants: Variants = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    states: States = None,
    yes: Yes = False,
) -> None:
    """Remove old logs of finished packs, unused code and leftovers; with a filter, all records of those packs."""
    folder = submitted(sweep, outputs)
    wanted = make_filter(variants, tasks, seeds, states)
    with alone(folder):
        found = board(folder, accounting=False)
        if wanted.empty:
            doomed, what = cleaning.leftovers(found), "leftovers"
        else:
            packs = _packs(found, wanted, ("done", "diverged", "failed", "lost", "damaged", "cancelled", "missing"))
            unknown = {name: pack for name, pack in found.packs.items() if pack.damage and not pack.run_ids}
            packs |= {name: pack for name, pack in unknown.items() if wanted.takes_pack(pack.state)}
            doomed, what = (
                [pack.folder.path for pack in packs.values()],
                f"all records of {_count(found, packs, wanted)}",
            )
        if not doomed:
            return out.print("Nothing to remove.")
        files, size = cleaning.weigh(doomed)
        _ask(f"Remove {what}: {count(files, 'file')}, {size / 1e6:,.1f} MB?", yes)
        cleaning.remove(doomed)
    return out.print(f"{count(files, 'file')} removed.")


def _watched(found: Board) -> Group:
    lines = screen.remarks(found)
    for line in lines:  # a line longer than the screen would put the next frame in the wrong place
        line.no_wrap, line.overflow = False, "fold"
    return Group(screen.standing(found), *lines)


def _packs(found: Board, wanted: Filter, states: Collection[str]) -> dict[str, screen.PackState]:
    """The packs in one of `states` that hold a run that is meant."""
    packs = {cell.pack.folder.pack_id: cell.pack for cell in found.cells if cell.pack and wanted.takes_cell(cell)}
    return {name: pack for name, pack in packs.items() if pack.state in states}


def _count(found: Board, packs: dict[str, screen.PackState], wanted: Filter) -> str:
    """So many packs and runs; and how many of the runs share a pack with those that are meant but are not meant."""
    runs = sum(len(pack.run_ids) for pack in packs.values())
    meant = sum(wanted.takes_cell(cell) for cell in found.cells if cell.pack and cell.pack.folder.pack_id in packs)
    beside = f", {runs - meant} of which only share a pack with what you named" if runs > meant else ""
    return f"{count(len(packs), 'pack')} with {count(runs, 'run')}{beside}"


def _ask(question: str, yes: bool) -> None:
    if not yes and not typer.confirm(question):
        stop("Nothing was done.", FAILED)
