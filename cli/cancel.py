"""`scorer cancel` and `scorer throttle`: change the jobs of a sweep that Slurm has."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import DEFAULT_OUTPUTS, FAILED, USAGE, confirm, exit_with_error, out
from cli.filters import describe_packs, make_filter, matching_packs
from cli.help import App
from cli.options import Outputs, Seeds, States, SweepArgument, Tasks, Variants, Yes
from cli.slurm_queue import in_queue, slurm_or_exit
from cli.sweep_argument import search_folder, submitted_folder
from scorer_core.support.commands import command_on
from scorer_core.support.text import count
from slurm.backend import backend_of, by_backend
from slurm.cluster import cancelling
from slurm.status import read_status
from slurm.submissions.submission import submissions, sweep_lock

app = App()


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
    """Cancel running and pending packs of a sweep, or all workers of a search.

    Checkpoints are kept. Continue a sweep with `scorer resume`.

    The job that draws the report is cancelled with the last jobs that it waits for.
    """
    wanted = make_filter(variants, tasks, seeds, states)
    search = search_folder(sweep, outputs)
    if search:
        if not wanted.empty:
            exit_with_error(f"{sweep}: filters are not used with a search; remove them to cancel all workers", USAGE)
        return _cancel_workers(search, yes)
    folder = submitted_folder(sweep, outputs)
    with sweep_lock(folder):
        status = read_status(folder, accounting=False)
        if status.scheduler_error:
            exit_with_error(f"Slurm did not respond, nothing was cancelled: {status.scheduler_error}", FAILED)
        wanted = wanted.among(cell.run for cell in status.cells)
        packs = matching_packs(status, wanted, ("running", "pending"))
        packs = {name: pack for name, pack in packs.items() if pack.submission}
        queued = slurm_or_exit(lambda: in_queue(status.submissions))
        if not packs and not (queued and wanted.empty):
            return out.print("No matching run is running or pending.")
        jobs = {task for tasks in queued.values() for task in tasks.values()}
        if not wanted.empty:  # otherwise also a second job of a pack, and jobs of packs that are done
            # A job that also has other packs goes on: it stops the packs that are marked as cancelled.
            others = {pack.queued.task for name, pack in status.packs.items() if pack.queued and name not in packs}
            ours = {pack.queued.task for pack in packs.values() if pack.queued} - others
            jobs = {job for job in jobs if job.job and job.task in ours}
        reports = cancelling.report_jobs(status.submissions, queued, jobs)
        arrays = jobs - reports
        what = describe_packs(status, packs, wanted) if packs else count(len(arrays), "leftover job")
        report_jobs = count(len(reports), "report job")
        confirm(f"Cancel {what}{f' and {report_jobs}' if reports else ''}?", yes)
        for pack in packs.values():
            pack.folder.mark_cancelled(True)
        for backend in by_backend(status.submissions):
            slurm_or_exit(lambda backend=backend: backend.cancel(arrays, reports))
    cancelled = f"{count(len(packs), 'pack')}{f' and {report_jobs}' if reports else ''} cancelled."
    return out.print(f"{cancelled} Continue with: {command_on('resume', folder)}")


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
    again = command_on("search", folder, "--profile", "PROFILE")
    return out.print(f"{count(len(workers), 'worker')} cancelled. Continue with: {again}")


@app.command(epilog="Example: scorer throttle ratio 20")
def throttle(
    sweep: SweepArgument,
    jobs: Annotated[int, typer.Argument(metavar="N", min=1, help="Maximum number of jobs running at once.")],
    outputs: Outputs = DEFAULT_OUTPUTS,
) -> None:
    """Change how many jobs of a sweep run at once. Running jobs are not stopped."""
    folder = submitted_folder(sweep, outputs)
    with sweep_lock(folder):
        sent = [submission for submission in submissions(folder) if backend_of(submission.profile).has_job_ids]
        if not sent:
            exit_with_error(
                f"{folder.name}: runs on this machine, where the limit is `processes` of the profile; change it there "
                "and submit again",
                USAGE,
            )
        queued = slurm_or_exit(lambda: in_queue(sent))
        limited, running = slurm_or_exit(lambda: backend_of(sent[-1].profile).set_throttle(sent, queued, jobs))
    if not limited:
        return out.print(f"No job of {folder.name} is in the queue.")
    out.print(f"{count(limited, 'array')} changed: at most {count(jobs, 'job')} of {folder.name} at once.")
    if running > jobs:
        out.print(f"{count(running, 'job')} running now; no other starts until fewer than {jobs} run.")
    return None
