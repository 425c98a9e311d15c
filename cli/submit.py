"""`scorer submit`, and the steps that it shares with resume and retry (`resubmit.py`)."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cli.console import DEFAULT_OUTPUTS, FAILED, INTERRUPTED, USAGE, exit_with_error, out
from cli.device import means_for
from cli.filters import make_filter
from cli.help import App
from cli.options import After, DryRun, Outputs, Overrides, ProfileName, Seeds, SweepArgument, Tasks, Variants
from cli.plan import cluster_estimate, plan_for, print_estimate, print_notes, print_problems
from cli.slurm_queue import jobs_to_wait_for, slurm_or_exit
from cli.submit_view import dry_run_text, interrupted_note, order_notes, outdated_code, submit_summary
from cli.sweep_argument import definition
from scorer_core.support.commands import command_on
from scorer_core.support.text import count
from slurm.backend import SchedulerError, SubmissionUnknownError, backend_of
from slurm.profile import Profile, load_profile, profiles
from slurm.status import read_status
from slurm.submissions.submission import new, sweep_lock
from slurm.submit import (
    BY_DEFAULT,
    array_sizes,
    group_by_snapshot,
    number_of_jobs,
    recover_job_ids,
    remaining_throttle,
    select_packs,
    send,
)
from sweeps import folders
from sweeps.definition import Sweep
from sweeps.grid import grid_run

app = App()


@app.command(epilog="Example: scorer submit ratio --profile mycluster --dry-run")
def submit(
    sweep: SweepArgument,
    profile: ProfileName,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    lanes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Maximum runs per pack (default: the profile's).")
    ] = None,
    variants: Variants = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    after: After = None,
    dry_run: DryRun = False,
) -> None:
    """Submit all missing and lost runs to a cluster or to this machine, and return.

    Lost runs continue from their checkpoints, with the current code (`scorer resume`: with the code of their
    submission). Failed and cancelled runs are skipped: `scorer retry` is for these.
    """
    where = load_profile(profile)
    wanted = make_filter(variants, tasks, seeds)
    source = folders.source(sweep, outputs, overrides or ())
    loaded, outputs = definition(sweep, outputs, overrides or ())
    runs = [grid_run(run) for run in loaded.runs]
    wanted = wanted.among(runs)
    only = None if wanted.empty else {run.run_id for run in runs if wanted.matches_grid_run(run)}
    changes = folders.changes(sweep, outputs / loaded.name, overrides or ())
    jobs = jobs_before(after, where, outputs)
    submit_runs(loaded, source, outputs, where, only, BY_DEFAULT, lanes, dry_run, jobs=jobs, changes=changes)


@contextmanager
def until_interrupted() -> Iterator[None]:
    """End the command with one line and the exit code INTERRUPTED at Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        exit_with_error(
            "Interrupted; no further jobs were submitted. To continue, run the same command again.", INTERRUPTED
        )


@until_interrupted()
def submit_runs(
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
    changes: Sequence[str] = (),
) -> None:
    """Plan, select packs in `states`, submit them and print what was done. Errors end the command with one line.

    `only` holds the ids of the runs to submit, or None for all; `source` names the definition, and `changes` the keys
    in which it differs from the one used before. With `same_code`, each pack keeps the code of its last submission.
    New jobs start after `jobs`.
    """
    folder = outputs / loaded.name
    backend, limits = backend_of(profile), None
    if dry_run:
        try:
            limits = backend.limits(profile)
        except SchedulerError as error:
            out.print(f"The limits of the cluster are unknown, so arrays may be split further: {error}")
    else:
        limits = slurm_or_exit(lambda: backend.limits(profile))
    with nullcontext() if dry_run else _locked(folder):
        means = means_for(profile, loaded)
        if means.problem and not dry_run:
            exit_with_error(f"Nothing was submitted: {means.problem}", USAGE)
        print_problems(filter(None, [means.problem]))
        planned = plan_for(loaded, outputs, profile, means, lanes, only)
        if backend.on_this_machine:
            profile = profile.model_copy(update={"processes": planned.layout.processes})
        found = read_status(folder.resolve(), accounting=False)
        if found.scheduler_error and not dry_run:
            exit_with_error(f"Slurm did not respond, nothing was submitted: {found.scheduler_error}", FAILED)
        recovered = 0 if dry_run else recover_job_ids(found)
        if recovered:
            arrays = count(recovered, "job array")
            out.print(f"Recovered {arrays} of an interrupted submission: in Slurm, but not recorded.")
        space = slurm_or_exit(lambda: backend.free_slots(profile, limits)) if limits else None
        chosen = select_packs(planned, found, states, space)
        print_problems(planned.problems)
        print_notes(planned, source, changes)
        name = profile.name if profile.name in profiles() else "NAME"
        first = not any(submission.packs for submission in found.submissions)
        out.print("\n".join(submit_summary(planned, chosen, name if first else None)))
        names = set(chosen.packs)
        selected = [pack for pack in planned.packs if pack.folder.pack_id in names]
        if backend.on_this_machine:
            print_estimate(replace(planned, packs=selected), means)
        elif selected:
            out.print("\n".join(cluster_estimate(selected, profile)))
        if dry_run:
            arrays = array_sizes(number_of_jobs(len(chosen.packs), profile), limits)
            throttle, before = remaining_throttle(found, profile.throttle)
            snapshot = folder.resolve() / "code" / "SNAPSHOT"
            after = [*jobs, *before]
            submission = new(folder.resolve(), profile, snapshot, arrays, throttle, packs=chosen.packs, after=after)
            return out.print("\n".join(dry_run_text(planned, submission)))
        if not chosen.packs:
            return None
        parts = group_by_snapshot(chosen, found) if same_code else [(None, chosen)]
        for number, (code, part) in enumerate(parts):
            if part.outdated:
                out.print(outdated_code(part.outdated))
            if number:
                found = read_status(folder.resolve(), accounting=False)  # with the arrays of the part before
            try:
                sent = send(planned, found, part, profile, limits, code, jobs)
            except SubmissionUnknownError as error:
                exit_with_error(f"Slurm: {error}", FAILED)
            except SchedulerError as error:
                exit_with_error(f"Nothing was submitted: {error}", FAILED)
            if sent.interrupted:
                exit_with_error(interrupted_note(folder, sent), INTERRUPTED)
            watch = command_on("status", folder, "--watch")
            out.print(f"{count(sent.packs, 'pack')} submitted. Watch with: {watch}")
            for line in order_notes(folder, sent.submission):
                out.print(line)
            if sent.refused:
                exit_with_error(
                    f"Slurm rejected the remaining packs: {sent.refused}. Run the same command again later.", FAILED
                )
    return None


@until_interrupted()
def jobs_before(after: str | None, profile: Profile, outputs: Path) -> list[str]:
    """The ids of the jobs that `--after` names; the new jobs start when these have ended."""
    if after is None:
        return []
    backend = backend_of(profile)
    if not backend.has_job_ids:
        exit_with_error(f"--after: not used with scheduler: {profile.scheduler}; remove it", USAGE)
    return slurm_or_exit(lambda: jobs_to_wait_for(after, outputs, backend))


def _locked(folder: Path) -> AbstractContextManager[None]:
    """Create `folder` and lock its sweep. If it cannot be written, the command ends with one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return sweep_lock(folder)
    except OSError as error:
        exit_with_error(f"{folder}: cannot be written: {error.strerror}", USAGE)
