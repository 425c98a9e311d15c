"""What `scorer submit` prints: the selected packs, the dry run, and what was submitted."""

from pathlib import Path

from scorer_core.support.commands import command_on
from scorer_core.support.secrets import mask
from scorer_core.support.text import count, folded
from slurm.backend import SubmitResult, backend_of
from slurm.submissions.submission import ENVIRONMENT, HEARTBEAT_SECONDS, Submission
from slurm.submit import Selection
from sweeps.plan import Plan

SHOWN_PACKS = 8  # of each array
FILES_OF_A_PACK = 5  # pack.json, lock, state.json, done.json, and the report of its last checkpoint
FILES_OF_AN_ATTEMPT = 3


def submit_summary(planned: Plan, chosen: Selection, profile: str | None) -> list[str]:
    """A line for each group of packs: submitted, already queued, over the limit, skipped.

    `profile` is part of the command that submits the skipped packs, unless the sweep was submitted before.
    """
    runs = {pack.folder.pack_id: len(pack.configs) for pack in planned.packs}
    lines = [
        f"To submit: {count(len(chosen.packs), 'pack')}, {count(sum(runs[name] for name in chosen.packs), 'run')}."
    ]
    if chosen.already_queued:
        lines.append(f"Already running or pending: {count(chosen.already_queued, 'pack')}.")
    if chosen.over_limit:
        lines.append(
            f"Over the queue limit: {count(chosen.over_limit, 'pack')} ({chosen.limit}). Submit again when jobs have "
            "finished."
        )
    for state, many in chosen.skipped.items():
        retry = command_on("retry", planned.folder, "--state", state, *(["--profile", profile] if profile else []))
        again = f"Resubmit with: {retry}" if state != "unknown" else "Submit again when Slurm responds."
        lines.append(f"Skipped: {count(many, f'{state} pack')}. {again}")
    return lines


def outdated_code(packs: int) -> str:
    """The line on packs that are resumed with the current code, because their own is of an older version."""
    return (
        f"{count(packs, 'pack')} continue{'s' if packs == 1 else ''} with the current code: this version of scorer "
        "cannot start the older version that was submitted."
    )


def dry_run_text(planned: Plan, submission: Submission) -> list[str]:
    """What `--dry-run` shows: the packs, the script of the first array, and the number of files and Slurm calls."""
    packs = {pack.folder.pack_id: pack for pack in planned.packs}
    variants = {run.run_id: run.variant.name for run in planned.sweep.runs}
    lines = [""]
    for array in submission.arrays:
        names = submission.packs_of(array)
        if submission.profile.packs_per_job == 1:
            what = count(len(names), "pack")
        else:
            what = f"{count(array.count, 'job')} with {count(len(names), 'pack')}"
        lines.append(f"array {array.name}: {what}, {array.throttle or array.count} at once")
        for name in names[:SHOWN_PACKS]:
            configs = packs[name].configs
            seeds = sorted({config.seed for config in configs})
            lines.append(
                f"  {name}  {folded(config.task for config in configs)}: "
                f"{folded(variants.get(config.run_id, 'a run of an earlier definition') for config in configs)}; "
                f"{'seed' if len(seeds) == 1 else 'seeds'} {folded(seeds)}; "
                f"{count(len(configs), 'lane')}, {configs[0].total_steps:,} steps"
            )
        if len(names) > SHOWN_PACKS:
            lines.append(f"  and {len(names) - SHOWN_PACKS} more")
    profile = submission.profile
    if script := backend_of(profile).script(submission):
        lines += ["", mask(script.rstrip()), ""]
        if profile.environment:
            lines += [f"{ENVIRONMENT}, which only you can read, sets {', '.join(profile.environment)}.", ""]
    commits = [max(1, round(packs[name].seconds / profile.commit_seconds)) for name in submission.packs]
    files = sum(FILES_OF_A_PACK + FILES_OF_AN_ATTEMPT + count for count in commits)
    arrays = len(submission.arrays)
    lines.append(
        f"Files: about {files:,} when done, with one checkpoint per pack every {profile.commit_seconds:g} s at the\n"
        f"estimated speed; {5 + arrays} for the submission, and one copy of the code."
    )
    if backend_of(profile).has_job_ids:
        lines.append(
            f"Slurm: {arrays + 1} calls of sbatch and about 10 of squeue, scontrol and sacctmgr to submit; one squeue\n"
            f"per status. Each pack writes a heartbeat file every {HEARTBEAT_SECONDS:g} s, which does not call Slurm."
        )
    return lines


def order_notes(folder: Path, submission: Submission) -> list[str]:
    """Lines on the jobs that the arrays wait for, and on a throttle that is smaller than the profile's."""
    lines = []
    if submission.after:
        lines.append(f"These jobs start after {'job' if len(submission.after) == 1 else 'jobs'} "
                     f"{', '.join(submission.after)}.")  # fmt: skip
    throttle = submission.profile.throttle
    total = sum(array.throttle or 0 for array in submission.arrays if array.behind is None)
    if throttle and total < min(throttle, sum(array.count for array in submission.arrays)):
        lines.append(
            f"At most {total} of them run at once: jobs submitted earlier use the rest of `throttle: {throttle}`. "
            f"To change it later: {command_on('throttle', folder, throttle)}"
        )
    return lines


def interrupted_note(folder: Path, sent: SubmitResult) -> str:
    """What was submitted before Ctrl-C, and how to submit the rest or cancel."""
    submission = sent.submission
    arrays = [f"array {a.job} ({count(len(submission.packs_of(a)), 'pack')})" for a in submission.arrays if a.job]
    if submission.report_job and submission.report_job.job:
        arrays.append(f"report job {submission.report_job.job}")
    rest = len(submission.packs) - sent.packs
    return (
        f"Interrupted. Submitted: {', '.join(arrays) or 'nothing'}; not submitted: {count(rest, 'pack')}. "
        f"To submit the rest: {command_on('resume', folder)}. To cancel: {command_on('cancel', folder)}"
    )
