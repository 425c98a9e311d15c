"""Verbs on where it runs: status, logs, cancel, clean; and those that submit."""

import time
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from cli import logs as following
from cli import status_view as screen
from cli import submit as verbs_submit
from cli import usage_view as usage_screen
from cli.common import Yes, confirm, in_queue, search_folder, slurm_or_exit, submitted_folder
from cli.console import DEFAULT_OUTPUTS, FAILED, USAGE, exit_with_error, out, print_json
from cli.filters import Filter, Seeds, States, Tasks, Variants, make_filter
from cli.options import AsJson, Outputs, SweepArgument
from cli.profile import profile_app
from scorer_core.support.commands import command_on, shown_path
from scorer_core.support.text import count
from slurm.backend import backend_of, by_backend
from slurm.cluster import cancelling
from slurm.cluster import usage as measuring
from slurm.status import SweepStatus, read_status
from slurm.submissions import cleaning
from slurm.submissions.submission import submissions, sweep_lock
from sweeps.left_out import OnDisk, left_out
from sweeps.loading import load_submitted

app = typer.Typer()
app.add_typer(verbs_submit.app)
app.add_typer(profile_app, name="profile")

WATCH_SECONDS = 30.0  # between two questions to Slurm


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
    usage: Annotated[
        bool, typer.Option("--usage", help="Memory and time that jobs used, and a proposal for the next profile.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show where every run stands, and what needs attention; from the files and one question to Slurm."""
    folder = submitted_folder(sweep, outputs)
    wanted = make_filter(variants, tasks, seeds, states)
    left: list[str] = []

    def look(accounting: bool) -> SweepStatus:
        found = read_status(folder, accounting, tolerant=True)
        left[:] = _left_out(found)
        chosen = wanted.among(cell.run for cell in found.cells)
        found.cells = [cell for cell in found.cells if chosen.takes_cell(cell)]
        return found

    found = look(accounting=not watch and not usage)
    if usage:
        used = measuring.usage(found)
        return print_json(usage_screen.as_json(found, used)) if as_json else usage_screen.show(found, used)
    if as_json:
        return print_json(screen.as_json(found) | {"left_out": left}, indent=None)
    if not watch:
        out.print(screen.status_table(found))
        for line in screen.status_notes(found):
            out.print(line)
        for line in left:
            out.print(f"note: {line}")
        return None
    with Live(_watched(found, left), console=out, auto_refresh=False) as live:
        try:
            while any(cell.state in ("running", "pending", "unknown") for cell in found.cells):
                time.sleep(WATCH_SECONDS)
                found = look(accounting=False)
                live.update(_watched(found, left), refresh=True)
        except KeyboardInterrupt:
            return None
    return None


@app.command(epilog="Example: scorer logs 3f2a -f  (any unique beginning of a run's or a pack's id, or a path)")
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
    """Stop running jobs and remove waiting ones, of a sweep or of a search's workers; `scorer resume` goes on.

    What was committed stays. The job that draws the report is removed with the last jobs that it waits for.
    """
    wanted = make_filter(variants, tasks, seeds, states)
    search = search_folder(sweep, outputs)
    if search:
        if not wanted.empty:
            exit_with_error(
                f"{sweep}: is a search, and filters are not used with it; leave them out to cancel all workers", USAGE
            )
        return _cancel_workers(search, yes)
    folder = submitted_folder(sweep, outputs)
    with sweep_lock(folder):
        found = read_status(folder, accounting=False)
        if found.scheduler_error:
            exit_with_error(f"Slurm does not answer, nothing was cancelled: {found.scheduler_error}", FAILED)
        wanted = wanted.among(cell.run for cell in found.cells)
        packs = _packs(found, wanted, ("running", "pending"))
        packs = {name: pack for name, pack in packs.items() if pack.submission}
        queued = slurm_or_exit(lambda: in_queue(found.submissions))
        if not packs and not (queued and wanted.empty):
            return out.print("None of these runs is running or in the queue.")
        jobs = {pack.queued for pack in packs.values() if pack.queued and pack.queued.job}
        if wanted.empty:  # also a second job of a pack, and jobs of packs that are done
            jobs |= {task for tasks in queued.values() for task in tasks.values()}
        reports = cancelling.report_jobs(found.submissions, queued, jobs)
        arrays = jobs - reports
        what = _count(found, packs, wanted) if packs else count(len(arrays), "leftover job")
        drawn = f" and {count(len(reports), 'job')} that would draw the report" if reports else ""
        confirm(f"Cancel {what}{drawn}?", yes)
        for pack in packs.values():
            pack.folder.mark_cancelled(True)
        for backend in by_backend(found.submissions):
            slurm_or_exit(lambda backend=backend: backend.cancel(arrays, reports))
    told = f"{count(len(packs), 'pack')} cancelled{f', {drawn[5:]} too' if reports else ''}."
    return out.print(f"{told} To go on: {command_on('resume', folder)}")


@app.command(epilog="Example: scorer throttle ratio 20")
def throttle(
    sweep: SweepArgument,
    jobs: Annotated[int, typer.Argument(metavar="N", min=1, help="Jobs of the sweep that run at a time, at most.")],
    outputs: Outputs = DEFAULT_OUTPUTS,
) -> None:
    """Change how many jobs of a sweep run at a time; jobs that run already go on."""
    folder = submitted_folder(sweep, outputs)
    with sweep_lock(folder):
        sent = [submission for submission in submissions(folder) if backend_of(submission.profile).has_job_ids]
        if not sent:
            exit_with_error(
                f"{folder.name}: runs on this machine, where the throttle is `processes` of the profile; submit again "
                "with another value",
                USAGE,
            )
        queued = slurm_or_exit(lambda: in_queue(sent))
        limited, running = slurm_or_exit(lambda: backend_of(sent[-1].profile).set_throttle(sent, queued, jobs))
    if not limited:
        return out.print(f"Nothing of {folder.name} is in the queue.")
    out.print(f"{count(limited, 'array')} changed: at most {count(jobs, 'job')} of {folder.name} at a time.")
    if running > jobs:
        out.print(f"{count(running, 'job')} of it run now; no other starts until fewer than {jobs} run.")
    return None


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
    folder = submitted_folder(sweep, outputs)
    wanted = make_filter(variants, tasks, seeds, states)
    with sweep_lock(folder):
        found = read_status(folder, accounting=False)
        wanted = wanted.among(cell.run for cell in found.cells)
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
        confirm(f"Remove {what}: {count(files, 'file')}, {size / 1e6:,.1f} MB?", yes)
        cleaning.remove(doomed)
    return out.print(f"{count(files, 'file')} removed.")


def _cancel_workers(folder: Path, yes: bool) -> None:
    """Cancel all workers of a search that Slurm has."""
    with sweep_lock(folder):
        sent = submissions(folder)
        queued = slurm_or_exit(lambda: in_queue(sent))
        workers = {task for tasks in queued.values() for task in tasks.values()}
        if not workers:
            return out.print(f"Slurm has no worker of {folder.name}.")
        confirm(f"Cancel {count(len(workers), 'worker')} of {folder.name}?", yes)
        for backend in by_backend(sent):
            slurm_or_exit(lambda backend=backend: backend.cancel(workers, set()))
    return out.print(
        f"{count(len(workers), 'worker')} cancelled. To go on: {command_on('search', folder, '--profile', 'PROFILE')}"
    )


def _left_out(found: SweepStatus) -> list[str]:
    """Lines on runs on disk that are not of the definition as it was submitted; `found` has all its cells."""
    packs = [OnDisk(pack.folder, pack.run_ids, bool(pack.done)) for pack in found.packs.values() if not pack.damage]
    wanted = [cell.run.run_id for cell in found.cells]
    source = shown_path(found.folder / "sweep.yaml")
    return left_out(found.folder, packs, wanted, lambda: load_submitted(found.folder), source)


def _watched(found: SweepStatus, left: list[str]) -> Group:
    lines = [*screen.status_notes(found), *(Text(f"note: {line}") for line in left)]
    for line in lines:  # a line longer than the screen would put the next frame in the wrong place
        line.no_wrap, line.overflow = False, "fold"
    return Group(screen.status_table(found), *lines)


def _packs(found: SweepStatus, wanted: Filter, states: Collection[str]) -> dict[str, screen.PackStatus]:
    """The packs in one of `states` that hold a run that is meant."""
    packs = {cell.pack.folder.pack_id: cell.pack for cell in found.cells if cell.pack and wanted.takes_cell(cell)}
    return {name: pack for name, pack in packs.items() if pack.state in states}


def _count(found: SweepStatus, packs: dict[str, screen.PackStatus], wanted: Filter) -> str:
    """So many packs and runs; and how many of the runs share a pack with those that are meant but are not meant."""
    runs = sum(len(pack.run_ids) for pack in packs.values())
    meant = sum(wanted.takes_cell(cell) for cell in found.cells if cell.pack and cell.pack.folder.pack_id in packs)
    beside = f", {runs - meant} of which only share a pack with what you named" if runs > meant else ""
    return f"{count(len(packs), 'pack')} with {count(runs, 'run')}{beside}"
