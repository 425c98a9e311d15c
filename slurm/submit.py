"""From what is missing to jobs: which packs, in which arrays, and the order in which files and Slurm learn of it.

The submission is on disk before sbatch is called, and each array has a name of its own, so that whatever dies between
the two is found again by that name; what is done, running or queued is never submitted again.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scorer_core.records import PackFolder, refuse_links, replace_file
from slurm import local, scheduler, snapshot
from slurm.board import Board
from slurm.grid import grid
from slurm.profile import STORAGE_VARIABLE, Profile
from slurm.scheduler import Limits, SchedulerError
from slurm.submission import Submission, alone, new, submissions
from sweeps.plan import Plan

NEVER_AGAIN = ("done", "diverged", "running", "pending")
BY_DEFAULT = ("missing", "lost")  # `failed` and `cancelled` wait for `scorer retry`; `unknown` for an answer


@dataclass
class Selection:
    """The packs of a plan, sorted by whether they are to be submitted."""

    packs: list[str]  # to be submitted now
    live: int = 0  # running or queued
    held: dict[str, int] = field(default_factory=dict)  # by state: those that are not submitted without being told to
    beyond: int = 0  # more than the cluster takes at a time


@dataclass
class Sent:
    submission: Submission
    packs: int
    refused: str = ""  # why not all were taken


def select(planned: Plan, standing: Board, states: Collection[str], room: int | None) -> Selection:
    """Which packs of `planned` to submit: those in one of `states`, no more than there is room for."""
    chosen = Selection([])
    for pack in planned.packs:
        name = pack.folder.pack_id
        state = standing.packs[name].state if name in standing.packs else "missing"
        if state in states:
            chosen.packs.append(name)
        elif state in NEVER_AGAIN:
            chosen.live += 1
        else:
            chosen.held[state] = chosen.held.get(state, 0) + 1
    if room is not None:
        chosen.beyond = max(0, len(chosen.packs) - room)
        chosen.packs = chosen.packs[: max(0, room)]
    return chosen


def room(profile: Profile, limits: Limits | None) -> int | None:
    """How many packs may be queued now beside what is; one place is kept for the report."""
    most = [n for n in (profile.max_submit, limits.max_submit if limits else None) if n is not None]
    if profile.scheduler == "local" or not most:
        return None
    return max(0, min(most) - scheduler.queued() - 1)


def sizes(tasks: int, profile: Profile, limits: Limits | None) -> list[int]:
    """Tasks in arrays as equal as they can be, each with its last index below MaxArraySize."""
    most = limits.max_array_size if limits else scheduler.DEFAULT_MAX_ARRAY_SIZE
    count = 1 if profile.scheduler == "local" else -(-tasks // most)
    return [tasks * (i + 1) // count - tasks * i // count for i in range(count)] if tasks else []


def by_code(chosen: Selection, standing: Board) -> list[tuple[Path | None, Selection]]:
    """`chosen` in parts, each with the kept code that its packs were last submitted with; None for the code of now."""
    parts: dict[Path | None, Selection] = {}
    for name in chosen.packs:
        last = next((s for s in reversed(standing.submissions) if name in s.packs and s.code.exists()), None)
        parts.setdefault(last.code if last else None, Selection([])).packs.append(name)
    return list(parts.items())


def adopt(standing: Board) -> int:
    """Write down the numbers of arrays that Slurm has and a crash kept us from noting; how many there were."""
    found = 0
    for submission in standing.submissions:
        orphans = [request for request in submission.requests if not request.job and standing.jobs.get(request.name)]
        for request in orphans:
            request.job = standing.jobs[request.name]
        if orphans:
            submission.write()
        found += len(orphans)
    return found


def send(
    planned: Plan, standing: Board, chosen: Selection, profile: Profile, limits: Limits | None, code: Path | None = None
) -> Sent:
    """Put the submission on disk, then hand it to the scheduler. The caller holds `alone`; `code` is a snapshot.

    Raises:
        RecordError: if it cannot be written; nothing was submitted then.
        SchedulerError: if not one array was taken.
    """
    planned.write()
    folder = planned.folder.resolve()
    grid(folder)  # writes the index of runs, so that `status` builds no configuration
    code = code or snapshot.keep(folder / "code")
    submission = new(folder, profile, code, sizes(len(chosen.packs), profile, limits), packs=chosen.packs)
    for name in chosen.packs:
        PackFolder(folder / "packs" / name).mark_cancelled(False)
    return _hand_over(submission, [number for number in standing.jobs.values() if number])


def submit_workers(profile: Profile, command: Sequence[str], count: int, folder: Path) -> Submission:
    """`count` jobs that each run `command` in a snapshot of this code; on 75 a worker is started again.

    `folder` keeps the record and the logs, under `submissions/<n>/`. Variables of this process reach the jobs, secrets
    in them neither the script nor the record.

    Raises:
        RecordError: if the record cannot be written.
        SchedulerError: if Slurm refuses, or does not answer.
    """
    folder = folder.resolve()
    export = str(profile.sbatch.get("export", "ALL"))
    if os.environ.get(STORAGE_VARIABLE) and not {"ALL", STORAGE_VARIABLE} & set(export.split(",")):
        raise SchedulerError(
            f"profile {profile.name}: sbatch.export: with {export}, jobs do not get {STORAGE_VARIABLE}; add it"
        )
    limits = scheduler.limits(profile.account) if profile.scheduler == "slurm" else None
    with alone(folder):
        code = snapshot.keep(folder / "code")
        arrays = sizes(count, profile, limits)
        submission = new(folder, profile, code, arrays, command=list(command), workers=count)
        sent = _hand_over(submission, [])
    if sent.refused:
        raise SchedulerError(sent.refused)
    return sent.submission


def live_workers(folder: Path) -> int | None:
    """How many workers under `folder` run or wait; None if the scheduler does not answer."""
    sent = [submission for submission in submissions(folder.resolve()) if submission.command]
    try:
        jobs = scheduler.queue() if any(s.profile.scheduler == "slurm" for s in sent) else {}
    except SchedulerError:
        return None
    for submission in sent:
        if submission.profile.scheduler == "local":
            jobs |= local.queue(submission)
    return sum(len(jobs.get(request.name, {})) for submission in sent for request in submission.requests)


def _hand_over(submission: Submission, earlier: list[str]) -> Sent:
    """Files first, then sbatch, array by array; a refusal ends it, and the rest is for the next call."""
    refuse_links(submission.folder)
    (submission.folder / "logs").mkdir(parents=True)
    (submission.folder / "logs").chmod(0o700)  # a job may print its environment
    if submission.packs:
        replace_file(submission.folder / "packs.txt", ("\n".join(submission.packs) + "\n").encode())
    submission.write()
    if submission.profile.scheduler == "local":
        local.start(submission)
        return Sent(submission, len(submission.packs))
    from slurm import script  # and submitit with it: only now

    taken, refused = 0, ""
    for request in submission.requests:
        try:
            request.job = script.executor(submission, request).send(script.array_body(submission, request))
        except SchedulerError as error:
            refused = str(error)
            break
        submission.write()
        taken += request.count
    if not taken:
        raise SchedulerError(refused)
    if submission.last:
        after = [*earlier, *(request.job for request in submission.requests if request.job)]
        try:
            last = script.executor(submission, submission.last, array=False, after=after)
            submission.last.job = last.send(script.last_body(submission))
        except SchedulerError as error:
            refused = refused or f"the job that draws the report was refused: {error}"
        submission.write()
    return Sent(submission, taken, refused)
