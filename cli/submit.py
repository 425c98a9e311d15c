"""Verbs that hand runs to a scheduler, or say what that would cost: plan, submit, retry, resume."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cli import status_view as screen
from cli.common import Yes, confirm, jobs_to_wait_for, slurm_or_exit, submitted_folder
from cli.console import DEFAULT_OUTPUTS, FAILED, INTERRUPTED, USAGE, err, exit_with_error, out, print_json
from cli.filters import Filter, Seeds, States, Tasks, Variants, make_filter
from cli.options import AsJson, Lanes, Outputs, Overrides, Processes, SweepArgument
from cli.sweeps import plan_json, print_left_out, print_plan, print_price, print_problems, print_timescales
from scorer_core.support.commands import command, command_on, shown_path
from scorer_core.support.text import count
from scorer_core.support.waiting import waiting
from slurm import submit as submitting
from slurm.backend import QueuedJob, SchedulerError, SubmissionUnknownError, SubmitResult, backend_of, by_backend
from slurm.profile import Profile, load_profile
from slurm.status import SweepStatus, read_status
from slurm.submissions.submission import Submission, new, submit_command, sweep_lock
from sweeps import folders, loading
from sweeps.definition import Sweep
from sweeps.grid import grid_run
from sweeps.plan import Plan, make_plan

app = typer.Typer()
STOP_PATIENCE_SECONDS = 60.0  # for packs that are cancelled and still run
LONGEST_PAUSE_SECONDS = 8.0  # between two questions to the scheduler
HERE = Profile(name="local", scheduler="local")

ProfileOption = Annotated[
    str, typer.Option("--profile", envvar="SCORER_PROFILE", metavar="NAME|PATH", help="Where to run; `local` is here.")
]
SameProfile = Annotated[
    str | None, typer.Option("--profile", metavar="NAME|PATH", help="Instead of that of the last submission.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show packs and script; write and submit nothing.")]
After = Annotated[
    str | None,
    typer.Option(metavar="JOBID|SWEEP", help="Start after this job of Slurm, or after all queued jobs of this sweep."),
]
LanesOption = Annotated[int | None, typer.Option(min=1, help="Runs trained together, at most; else the profile's.")]


@app.command(epilog="Example: scorer plan quickstart -s seeds=5 -s variants.scorer.ratio=10 --profile mycluster")
def plan(
    sweep: SweepArgument,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    lanes: Lanes = None,
    processes: Processes = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", help="The price there; else on this machine.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a sweep expands to, what is missing, what that costs, and which two-timescale conditions hold.

    Writes nothing.
    """
    source = folders.source(sweep, outputs, overrides or ())
    loaded, outputs = folders.load(sweep, outputs, overrides or ())
    where = load_profile(profile) if profile else HERE
    planned = _plan(loaded, outputs, where, lanes, processes=processes)
    if as_json:
        return print_json(plan_json(planned, source))
    print_plan(planned, source)
    if backend_of(where).on_this_machine:
        print_price(planned)
    else:
        out.print("\n".join(screen.cost(planned.packs, where, processes)))
    return print_timescales(planned)


@app.command(epilog="Example: scorer submit ratio --profile mycluster --dry-run")
def submit(
    sweep: SweepArgument,
    profile: ProfileOption,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    lanes: LanesOption = None,
    variants: Variants = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    after: After = None,
    dry_run: DryRun = False,
) -> None:
    """Give what is missing to a cluster, or to this machine, and return; what is done, running or queued stays so."""
    where = load_profile(profile)
    wanted = make_filter(variants, tasks, seeds)
    source = folders.source(sweep, outputs, overrides or ())
    loaded, outputs = folders.load(sweep, outputs, overrides or ())
    runs = [grid_run(run) for run in loaded.runs]
    wanted = wanted.among(runs)
    only = None if wanted.empty else {run.run_id for run in runs if wanted.takes_run(run)}
    _submit(
        loaded,
        source,
        outputs,
        where,
        only,
        submitting.BY_DEFAULT,
        lanes,
        dry_run,
        jobs=_jobs_before(after, where, outputs),
    )


@app.command(epilog="Example: scorer retry ratio --failed --task breakout")
def retry(
    sweep: SweepArgument,
    profile: SameProfile = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    failed: Annotated[bool, typer.Option("--failed", help="The same as --state failed.")] = False,
    variants: Variants = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    states: States = None,
    after: After = None,
    dry_run: DryRun = False,
) -> None:
    """Submit again what failed, was cancelled or was lost, with the code as it is now and a new budget of attempts."""
    chosen = (states or []) + (["failed"] if failed else [])
    wanted = make_filter(variants, tasks, seeds, chosen)
    _again(sweep, outputs, profile, wanted, ("failed", "cancelled", "lost"), dry_run, after)


@app.command(epilog="Example: scorer resume ratio")
def resume(
    sweep: SweepArgument,
    profile: SameProfile = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    variants: Variants = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    states: States = None,
    after: After = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Submit again what was submitted and is lost, cancelled or was refused, with its code; release what Slurm holds.

    Runs that were never submitted stay so: `scorer submit` is for them, and `scorer retry` for failed ones.
    """
    wanted = make_filter(variants, tasks, seeds, states)
    _again(sweep, outputs, profile, wanted, ("missing", "lost", "cancelled"), dry_run, after, yes, as_submitted=True)


@contextmanager
def _until_interrupted() -> Iterator[None]:
    """Ctrl-C is one line and its exit code."""
    try:
        yield
    except KeyboardInterrupt:
        exit_with_error(
            "Interrupted; no further jobs were submitted. To go on, give the same command again.", INTERRUPTED
        )


@_until_interrupted()
def _submit(
    loaded: Sweep,
    source: str,
    outputs: Path,
    profile: Profile,
    only: Collection[str] | None,
    states: Collection[str],
    lanes: int | None = None,
    dry_run: bool = False,
    same_code: bool = False,
    jobs: Sequence[str] = (),
) -> None:
    """Plan, choose, submit and say so; one line where nothing can be done."""
    folder = outputs / loaded.name
    backend, limits = backend_of(profile), None
    if dry_run:
        try:
            limits = backend.limits(profile)
        except SchedulerError as error:
            out.print(f"Without the cluster's limits: {error}")
    else:
        limits = slurm_or_exit(lambda: backend.limits(profile))
    with nullcontext() if dry_run else _usable(folder):
        planned = _plan(loaded, outputs, profile, lanes, only)
        if backend.on_this_machine:
            profile = profile.model_copy(update={"processes": planned.layout.processes})
        found = read_status(folder.resolve(), accounting=False)
        if found.scheduler_error and not dry_run:
            exit_with_error(f"Slurm does not answer, nothing was submitted: {found.scheduler_error}", FAILED)
        adopted = 0 if dry_run else submitting.recover_job_ids(found)
        if adopted:
            told = "Found in Slurm, of a submission that was cut off before it could note them"
            out.print(f"{told}: {count(adopted, 'array')}.")
        space = slurm_or_exit(lambda: backend.free_slots(profile, limits)) if limits else None
        chosen = submitting.select_packs(planned, found, states, space)
        print_problems(planned.problems)
        print_left_out(planned, source)
        out.print("\n".join(screen.submit_summary(planned, chosen)))
        if chosen.packs and not backend.on_this_machine:
            going = [pack for pack in planned.packs if pack.folder.pack_id in chosen.packs]
            out.print("\n".join(screen.cost(going, profile)))
        if dry_run:
            arrays = submitting.array_sizes(len(chosen.packs), limits)
            throttle, before = submitting.remaining_throttle(found, profile.throttle)
            snapshot = folder.resolve() / "code" / "SNAPSHOT"
            would = new(
                folder.resolve(), profile, snapshot, arrays, throttle, packs=chosen.packs, after=[*jobs, *before]
            )
            text = "\n".join(screen.dry_run_text(planned, would))
            return out.print(text)
        if not chosen.packs:
            return None
        parts = submitting.group_by_snapshot(chosen, found) if same_code else [(None, chosen)]
        for number, (code, part) in enumerate(parts):
            if part.outdated:
                out.print(screen.outdated_code(part.outdated))
            if number:
                found = read_status(folder.resolve(), accounting=False)  # with the arrays of the part before
            try:
                sent = submitting.send(planned, found, part, profile, limits, code, jobs)
            except SubmissionUnknownError as error:
                exit_with_error(f"Slurm: {error}", FAILED)
            except SchedulerError as error:
                exit_with_error(f"Nothing was submitted: {error}", FAILED)
            if sent.interrupted:
                exit_with_error(_interrupted(folder, sent), INTERRUPTED)
            told = f"{count(sent.packs, 'pack')} submitted. To watch: {command_on('status', folder, '--watch')}"
            out.print(told)
            for line in _order(folder, sent.submission):
                out.print(line)
            if sent.refused:
                exit_with_error(f"Slurm refused the rest: {sent.refused}; submit again for it", FAILED)
    return None


def _order(folder: Path, submission: Submission) -> list[str]:
    """What the arrays wait for, and a throttle that is smaller than the profile's."""
    lines = []
    if submission.after:
        lines.append(f"These jobs start after {'job' if len(submission.after) == 1 else 'jobs'} "
                     f"{', '.join(submission.after)}.")  # fmt: skip
    throttle = submission.profile.throttle
    total = sum(request.throttle or 0 for request in submission.arrays if request.behind is None)
    if throttle and total < min(throttle, sum(request.count for request in submission.arrays)):
        lines.append(
            f"At most {total} of them run at a time: jobs submitted earlier use the rest of `throttle: {throttle}`. "
            f"To change it later: {command_on('throttle', folder, throttle)}"
        )
    return lines


def _interrupted(folder: Path, sent: SubmitResult) -> str:
    """What was submitted until Ctrl-C, and how to go on or to take it back."""
    submission = sent.submission
    arrays = [f"array {r.job} ({count(r.count, 'pack')})" for r in submission.arrays if r.job]
    if submission.report_job and submission.report_job.job:
        arrays.append(f"the report's job {submission.report_job.job}")
    rest = len(submission.packs) - sent.packs
    return (
        f"Interrupted. Submitted: {', '.join(arrays) or 'nothing'}; not submitted: {count(rest, 'pack')}. "
        f"To submit the rest: {command_on('resume', folder)}. To cancel: {command_on('cancel', folder)}"
    )


def _plan(
    loaded: Sweep,
    outputs: Path,
    profile: Profile,
    lanes: int | None,
    only: Collection[str] | None = None,
    processes: int | None = None,
) -> Plan:
    """Laid out for this machine only if it is to train here: it says nothing of a cluster's nodes."""
    lanes, processes = backend_of(profile).layout(profile, lanes, processes)
    return make_plan(loaded, outputs, lanes, processes=processes, only=only)


def _again(
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
    """Submit runs in `states` that `wanted` takes, of a sweep as it stands frozen in its folder.

    `as_submitted`: only what was submitted before, with the code it was submitted with; what Slurm holds is released.
    """
    folder = submitted_folder(sweep, outputs)
    found = _answered_board(folder)
    earlier = [submission for submission in found.submissions if submission.packs]
    if not profile and not earlier:
        first = command("submit", shown_path(folder), "--profile", "NAME")
        exit_with_error(f"{folder}: was never submitted; to submit it: {first}", FAILED)
    where = load_profile(profile) if profile else earlier[-1].whole_profile()
    jobs = _jobs_before(after, where, folder.parent)  # refused before any question
    wanted = wanted.among(cell.run for cell in found.cells)
    if _stopping(found, wanted):
        found = _once_stopped(folder, wanted)
    cells = [cell for cell in found.cells if wanted.takes_cell(cell)]
    held: list[QueuedJob] = []
    if as_submitted:
        never = [cell for cell in cells if cell.state == "missing" and not (cell.pack and cell.pack.submission)]
        if never:
            runs = f"{count(len(never), 'run')} never submitted, and not submitted by resume"
            out.print(f"{runs}. To submit: {submit_command(folder, earlier)}")
        cells = [cell for cell in cells if cell.pack and cell.pack.submission]
        held = list({cell.pack.queued for cell in cells if cell.pack and cell.pack.queued and cell.pack.queued.held})
    again = [cell for cell in cells if cell.state in states]
    if as_submitted and not dry_run and (held or again):
        packs = len({cell.pack.folder.pack_id for cell in again if cell.pack})
        parts = [f"submit {count(packs, 'pack')} with {count(len(again), 'run')} again"] if again else []
        parts += [f"release {count(len(held), 'pack')} that Slurm holds"] if held else []
        question = " and ".join(parts)
        confirm(f"{question[0].upper()}{question[1:]}?", yes)
    if held:
        if not dry_run:
            for backend in by_backend(found.submissions):
                slurm_or_exit(lambda backend=backend: backend.release(held))
        out.print(f"{count(len(held), 'pack')} {'to be released' if dry_run else 'released'}, which Slurm held.")
    if held and not again:
        return None
    still = _stopping(found, wanted)
    if still:
        told = f"{count(still, 'pack')} cancelled and still stopping, not submitted; give this command again later"
        err.print(told) if again else exit_with_error(told, FAILED)
    if not again:
        for line in screen.damage(found):
            out.print(line)
        named = [state for state in states if not (as_submitted and state == "missing")]
        return out.print(f"None of these runs is {' or '.join(named)}.")
    only = {cell.run.run_id for cell in again}
    loaded = loading.load_submitted(folder)
    source = shown_path(folder / "sweep.yaml")
    return _submit(
        loaded, source, folder.parent, where, only, states, dry_run=dry_run, same_code=as_submitted, jobs=jobs
    )


def _answered_board(folder: Path) -> SweepStatus:
    """Where the sweep in `folder` stands by the files and the scheduler; silence of Slurm is one line."""
    found = read_status(folder, accounting=False)
    if found.scheduler_error:
        exit_with_error(f"Slurm does not answer, nothing was submitted: {found.scheduler_error}", FAILED)
    return found


def _stopping(found: SweepStatus, wanted: Filter) -> int:
    """How many packs are cancelled, still run, and hold a run that `wanted` takes once it is cancelled."""
    stopping = [cell for cell in found.cells if cell.pack and cell.pack.stopping and cell.state == "running"]
    meant = [cell for cell in stopping if wanted.takes_cell(replace(cell, state="cancelled"))]
    return len({cell.pack.folder.pack_id for cell in meant if cell.pack})


@_until_interrupted()
def _once_stopped(folder: Path, wanted: Filter) -> SweepStatus:
    """Where the sweep stands when no pack that `wanted` takes is stopping any more, or after STOP_PATIENCE_SECONDS."""
    end, pause = time.monotonic() + STOP_PATIENCE_SECONDS, 0.5
    with waiting("packs that were cancelled to stop"):
        while True:
            found = _answered_board(folder)
            if not _stopping(found, wanted) or time.monotonic() >= end:
                return found
            time.sleep(min(pause, max(0.0, end - time.monotonic())))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


@_until_interrupted()
def _jobs_before(after: str | None, profile: Profile, outputs: Path) -> list[str]:
    """The jobs that must end before those submitted now, as `--after` asks."""
    if after is None:
        return []
    backend = backend_of(profile)
    if not backend.has_job_ids:
        exit_with_error(f"--after: not used with scheduler: {profile.scheduler}; leave it out", USAGE)
    return slurm_or_exit(lambda: jobs_to_wait_for(after, outputs, backend))


def _usable(folder: Path) -> AbstractContextManager[None]:
    """The sweep to ourselves, or one line on why its folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return sweep_lock(folder)
    except OSError as error:
        exit_with_error(f"{folder}: cannot be written: {error.strerror}", USAGE)
