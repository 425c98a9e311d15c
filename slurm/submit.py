"""From what is missing to jobs: which packs, in which arrays, and the order in which files and Slurm learn of it.

The submission is on disk before sbatch is called, and each array has a name of its own, so that whatever dies between
the two is found again by that name; what is done, running or queued is never submitted again.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scorer_core.records import PackFolder
from scorer_core.support.files import refuse_links, replace_file
from scorer_core.support.waiting import waiting
from slurm.cluster import scheduler
from slurm.cluster.limits import FreeSlots, explained
from slurm.cluster.scheduler import Limits, SchedulerError, SubmissionUnknownError
from slurm.local import supervisor as local
from slurm.profile import STORAGE_VARIABLE, Profile
from slurm.status import SweepStatus
from slurm.submissions import snapshot
from slurm.submissions.submission import Submission, new, submissions, sweep_lock
from sweeps.grid import grid
from sweeps.plan import Plan

DONE_OR_QUEUED = ("done", "diverged", "running", "pending")
BY_DEFAULT = ("missing", "lost")  # `failed` and `cancelled` wait for `scorer retry`; `unknown` for an answer


@dataclass
class Selection:
    """The packs of a plan, sorted by whether they are to be submitted."""

    packs: list[str]  # to be submitted now
    already_queued: int = 0  # running or queued
    skipped: dict[str, int] = field(
        default_factory=dict
    )  # by state: those that are not submitted without being told to
    over_limit: int = 0  # more than the cluster takes at a time
    limit: str = ""  # which limit says so


@dataclass
class SubmitResult:
    submission: Submission
    packs: int
    refused: str = ""  # why not all were taken
    interrupted: bool = False  # by Ctrl-C, before all were sent


def select_packs(planned: Plan, standing: SweepStatus, states: Collection[str], room: FreeSlots | None) -> Selection:
    """Which packs of `planned` to submit: those in one of `states`, no more than there is room for."""
    chosen = Selection([])
    for pack in planned.packs:
        name = pack.folder.pack_id
        state = standing.packs[name].state if name in standing.packs else "missing"
        if state in states:
            chosen.packs.append(name)
        elif state in DONE_OR_QUEUED:
            chosen.already_queued += 1
        else:
            chosen.skipped[state] = chosen.skipped.get(state, 0) + 1
    if room is not None:
        chosen.over_limit, chosen.limit = max(0, len(chosen.packs) - room.packs), room.limit
        chosen.packs = chosen.packs[: room.packs]
    return chosen


def remaining_throttle(standing: SweepStatus, throttle: int | None) -> tuple[int | None, list[str]]:
    """The throttle of a new submission, and jobs that it waits for: all arrays of a sweep keep to one `throttle`.

    What earlier arrays in the queue leave of it is for the new ones. If they leave nothing, the new ones start after
    them, with all of it.
    """
    if throttle is None:
        return None, []
    tasks: dict[str, set[int]] = {}
    for pack in standing.packs.values():
        if pack.queued and pack.queued.job:
            tasks.setdefault(pack.queued.job, set()).add(pack.queued.index)
    used = 0
    for submission in standing.submissions:
        for request in submission.requests:
            left = len(tasks.get(request.job or "", ()))
            before = submission.requests[request.behind].job if request.behind is not None else None
            if left and before not in tasks:
                used += min(request.throttle or left, left)
    if used < throttle:
        return throttle - used, []
    return throttle, sorted(tasks)


def array_sizes(tasks: int, profile: Profile, limits: Limits | None) -> list[int]:
    """Tasks in arrays as equal as they can be, each with its last index below MaxArraySize."""
    most = limits.max_array_size if limits else scheduler.DEFAULT_MAX_ARRAY_SIZE
    count = 1 if profile.scheduler == "local" else -(-tasks // most)
    return [tasks * (i + 1) // count - tasks * i // count for i in range(count)] if tasks else []


def group_by_snapshot(chosen: Selection, standing: SweepStatus) -> list[tuple[Path | None, Selection]]:
    """`chosen` in parts, each with the kept code that its packs were last submitted with; None for the code of now."""
    parts: dict[Path | None, Selection] = {}
    for name in chosen.packs:
        last = next((s for s in reversed(standing.submissions) if name in s.packs and s.code.exists()), None)
        parts.setdefault(last.code if last else None, Selection([])).packs.append(name)
    return list(parts.items())


def recover_job_ids(standing: SweepStatus) -> int:
    """Write down the numbers of arrays that Slurm has and a crash kept us from noting; how many there were."""
    found = 0
    for submission in standing.submissions:
        noted = _note(submission, standing.jobs)
        if noted:
            submission.write()
            if submission.name not in standing.report_jobs:
                _send_report(submission, [])
        found += noted
    return found


def _note(submission: Submission, jobs: Mapping[str, str]) -> int:
    """Take over the numbers of jobs, by name, that `submission` has not noted; how many. The caller writes it."""
    missing = [request for request in submission.all_requests if not request.job and jobs.get(request.name)]
    for request in missing:
        request.job = jobs[request.name]
    return len(missing)


def send(
    planned: Plan,
    standing: SweepStatus,
    chosen: Selection,
    profile: Profile,
    limits: Limits | None,
    code: Path | None = None,
    after: Sequence[str] = (),
) -> SubmitResult:
    """Put the submission on disk, then hand it to the scheduler. The caller holds `alone`; `code` is a snapshot.

    The jobs start when those in `after` have ended.

    Raises:
        RecordError: if it cannot be written; nothing was submitted then.
        SchedulerError: if not one array was taken.
    """
    planned.write()
    folder = planned.folder.resolve()
    grid(folder)  # writes the index of runs, so that `status` builds no configuration
    with waiting("the copy of the code"):
        code = code or snapshot.save_snapshot(folder / "code")
    throttle, before = remaining_throttle(standing, profile.throttle)
    arrays = array_sizes(len(chosen.packs), profile, limits)
    submission = new(folder, profile, code, arrays, throttle, packs=chosen.packs, after=[*after, *before])
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
    with sweep_lock(folder):
        code = snapshot.save_snapshot(folder / "code")
        arrays = array_sizes(count, profile, limits)
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


def _hand_over(submission: Submission, earlier: list[str]) -> SubmitResult:
    """Files first, then sbatch, array by array; a refusal ends it, and the rest is for the next call."""
    refuse_links(submission.folder)
    (submission.folder / "logs").mkdir(parents=True)
    (submission.folder / "logs").chmod(0o700)  # a job may print its environment
    if submission.packs:
        replace_file(submission.folder / "packs.txt", ("\n".join(submission.packs) + "\n").encode())
    submission.write()
    if submission.profile.scheduler == "local":
        with waiting("the process that starts the packs"):
            local.start(submission)
        return SubmitResult(submission, len(submission.packs))
    from slurm.cluster import script  # and submitit with it: only now

    taken, refused = 0, None
    try:
        for request in submission.requests:
            if request.behind is not None:
                request.after = [*request.after, *filter(None, [submission.requests[request.behind].job])]
            try:
                request.job = _send(script.executor(submission, request), script.array_body(submission, request))
            except SchedulerError as error:
                if not taken:
                    raise explained(error) from None
                refused = explained(error)
                break
            submission.write()
            taken += request.count
        without_report = _send_report(submission, earlier)
    except KeyboardInterrupt:
        with suppress(SchedulerError):  # the next `submit` or `resume` asks again
            _note(submission, {name: next(iter(tasks.values())).job for name, tasks in scheduler.queue().items()})
        submission.write()
        return SubmitResult(
            submission, sum(request.count for request in submission.requests if request.job), interrupted=True
        )
    if isinstance(refused, SubmissionUnknownError):
        raise SubmissionUnknownError(f"{taken} tasks were submitted; of the next array, {refused}")
    return SubmitResult(submission, taken, str(refused or without_report))


def _send_report(submission: Submission, earlier: list[str]) -> str:
    """Submit the job that draws the report, if there is to be one; why it was not submitted, or nothing."""
    from slurm.cluster import script

    if not submission.last:
        return ""
    after = [*earlier, *(request.job for request in submission.requests if request.job)]
    try:
        last = script.executor(submission, submission.last, array=False, after=after)
        submission.last.job = _send(last, script.report_body(submission))
    except SchedulerError as error:
        return f"the job that draws the report: {explained(error)}"
    finally:
        submission.write()
    return ""


def _send(request: Any, body: str) -> str:
    """Submit with sbatch; the number of the job, from the queue if sbatch does not give it.

    Raises:
        SchedulerError: if Slurm refuses.
        SubmissionUnknownError: if neither sbatch nor squeue tells whether the job is in the queue.
    """
    name = request.parameters["job_name"]
    try:
        return request.send(body)
    except SubmissionUnknownError as error:
        try:
            found = scheduler.queue().get(name)
        except SchedulerError:
            found = None
        if found:
            return next(iter(found.values())).job
        told = f"it is not known whether {name} was submitted ({error}); if it was, scorer status and scorer submit"
        raise SubmissionUnknownError(f"{told} find it by this name, and it is not submitted again") from None
