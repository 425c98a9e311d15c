"""`scorer resume` and `scorer retry`: submit runs of a submitted sweep again."""

import time
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from cli.console import DEFAULT_OUTPUTS, FAILED, confirm, err, exit_with_error, out
from cli.filters import Filter, make_filter
from cli.help import App
from cli.options import After, DryRun, LastProfile, Outputs, Seeds, States, SweepArgument, Tasks, Variants, Yes
from cli.slurm_queue import slurm_or_exit
from cli.status_view import damage
from cli.submit import jobs_before, submit_runs, until_interrupted
from cli.sweep_argument import submitted_folder
from scorer_core.support.commands import command, shown_path
from scorer_core.support.text import count
from scorer_core.support.waiting import waiting
from slurm.backend import QueuedJob, by_backend
from slurm.profile import load_profile
from slurm.status import SweepStatus, read_status
from slurm.submissions.submission import submit_command
from sweeps import loading

app = App()
STOP_PATIENCE_SECONDS = 60.0  # for packs that are cancelled and still run
LONGEST_PAUSE_SECONDS = 8.0  # between two calls of squeue


@app.command(epilog="Example: scorer resume ratio")
def resume(
    sweep: SweepArgument,
    profile: LastProfile = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    variants: Variants = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    states: States = None,
    after: After = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Resubmit lost and cancelled runs with the code of their submission; release held jobs.

    Runs continue from their checkpoints. Packs that Slurm rejected are submitted too.

    Runs that were never submitted are skipped (use `scorer submit`), and so are failed runs (use `scorer retry`).
    """
    wanted = make_filter(variants, tasks, seeds, states)
    _resubmit(sweep, outputs, profile, wanted, ("missing", "lost", "cancelled"), dry_run, after, yes, as_submitted=True)


@app.command(epilog="Example: scorer retry ratio --failed --task breakout")
def retry(
    sweep: SweepArgument,
    profile: LastProfile = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed runs: short for --state failed.")] = False,
    variants: Variants = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    states: States = None,
    after: After = None,
    dry_run: DryRun = False,
) -> None:
    """Resubmit failed, cancelled and lost runs with the current code.

    Runs continue from their checkpoints. The count of attempts restarts at zero. Does not ask before it submits.
    """
    chosen = (states or []) + (["failed"] if failed else [])
    wanted = make_filter(variants, tasks, seeds, chosen)
    _resubmit(sweep, outputs, profile, wanted, ("failed", "cancelled", "lost"), dry_run, after)


def _resubmit(
    sweep: str,
    outputs: Path,
    profile: str | None,
    wanted: Filter,
    states: Collection[str],
    dry_run: bool,
    after: str | None,
    yes: bool = True,
    as_submitted: bool = False,
) -> None:
    """Submit the runs in `states` that `wanted` selects, by the definition frozen in the folder of the sweep.

    `as_submitted`: only runs that were submitted before, with the code of that submission; held jobs are released.
    """
    folder = submitted_folder(sweep, outputs)
    found = _status_or_exit(folder)
    earlier = [submission for submission in found.submissions if submission.packs]
    if not profile and not earlier:
        first = command("submit", shown_path(folder), "--profile", "NAME")
        exit_with_error(f"{folder}: was never submitted. Submit it with: {first}", FAILED)
    where = load_profile(profile) if profile else earlier[-1].whole_profile()
    jobs = jobs_before(after, where, folder.parent)  # refused before any question
    wanted = wanted.among(cell.run for cell in found.cells)
    if _stopping(found, wanted):
        found = _once_stopped(folder, wanted)
    cells = [cell for cell in found.cells if wanted.matches_run(cell)]
    held: list[QueuedJob] = []
    if as_submitted:
        never = [cell for cell in cells if cell.state == "missing" and not (cell.pack and cell.pack.submission)]
        if never:
            runs = f"Skipped {count(len(never), 'run')} that {'was' if len(never) == 1 else 'were'} never submitted."
            out.print(f"{runs} Submit with: {submit_command(folder, earlier)}")
        cells = [cell for cell in cells if cell.pack and cell.pack.submission]
        held = list({cell.pack.queued for cell in cells if cell.pack and cell.pack.queued and cell.pack.queued.held})
    again = [cell for cell in cells if cell.state in states]
    if as_submitted and not dry_run and (held or again):
        packs = len({cell.pack.folder.pack_id for cell in again if cell.pack})
        parts = [f"resubmit {count(packs, 'pack')} with {count(len(again), 'run')}"] if again else []
        parts += [f"release {count(len(held), 'held job')}"] if held else []
        question = " and ".join(parts)
        confirm(f"{question[0].upper()}{question[1:]}?", yes)
    if held:
        if not dry_run:
            for backend in by_backend(found.submissions):
                slurm_or_exit(lambda backend=backend: backend.release(held))
        out.print(f"{count(len(held), 'held job')} {'would be released' if dry_run else 'released'}.")
    if held and not again:
        return None
    still = _stopping(found, wanted)
    if still:
        skipped = f"Skipped {count(still, 'cancelled pack')} still stopping; run this command again later"
        err.print(skipped) if again else exit_with_error(skipped, FAILED)
    if not again:
        for line in damage(found):
            out.print(line)
        named = [state for state in states if not (as_submitted and state == "missing")]
        return out.print(f"No matching run is {' or '.join(named)}.")
    only = {cell.run.run_id for cell in again}
    loaded = loading.load_submitted(folder)
    source = shown_path(folder / "sweep.yaml")
    return submit_runs(
        loaded, source, folder.parent, where, only, states, dry_run=dry_run, same_code=as_submitted, jobs=jobs
    )


def _status_or_exit(folder: Path) -> SweepStatus:
    """The status of the sweep in `folder`. If Slurm does not respond, the command ends with one line."""
    found = read_status(folder, accounting=False)
    if found.scheduler_error:
        exit_with_error(f"Slurm did not respond, nothing was submitted: {found.scheduler_error}", FAILED)
    return found


def _stopping(found: SweepStatus, wanted: Filter) -> int:
    """The number of cancelled packs that still run and hold a run that `wanted` will select when it is cancelled."""
    stopping = [cell for cell in found.cells if cell.pack and cell.pack.stopping and cell.state == "running"]
    selected = [cell for cell in stopping if wanted.matches_run(cell._replace(state="cancelled"))]
    return len({cell.pack.folder.pack_id for cell in selected if cell.pack})


@until_interrupted()
def _once_stopped(folder: Path, wanted: Filter) -> SweepStatus:
    """The status when no pack that `wanted` selects is stopping any more, or after STOP_PATIENCE_SECONDS."""
    end, pause = time.monotonic() + STOP_PATIENCE_SECONDS, 0.5
    with waiting("packs that were cancelled to stop"):
        while True:
            found = _status_or_exit(folder)
            if not _stopping(found, wanted) or time.monotonic() >= end:
                return found
            time.sleep(min(pause, max(0.0, end - time.monotonic())))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
