"""Select the unfinished packs of a sweep and submit them.

The record of a submission is on disk before sbatch is called, and each array has a name of its own. If a process is
killed between the two, its jobs are found by these names. Packs that are done, running or queued are not submitted.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scorer_core import plugins
from scorer_core.records import PackFolder
from scorer_core.support.files import refuse_links, replace_file
from scorer_core.support.waiting import waiting
from slurm.backend import DEFAULT_MAX_ARRAY_SIZE, FreeSlots, Limits, SchedulerError, SubmitResult, backend_of, queue_of
from slurm.profile import STORAGE_VARIABLE, Profile
from slurm.status import SweepStatus
from slurm.submissions import snapshot
from slurm.submissions.submission import Submission, new, note_job_ids, submissions, sweep_lock
from sweeps.grid import grid
from sweeps.plan import Plan

DONE_OR_QUEUED = ("done", "diverged", "running", "pending")
BY_DEFAULT = ("missing", "lost")  # `failed` and `cancelled` need `scorer retry`; `unknown` may be running


@dataclass
class Selection:
    """The packs of a plan, sorted by whether they are to be submitted."""

    packs: list[str]  # to be submitted now
    already_queued: int = 0  # running or queued
    skipped: dict[str, int] = field(default_factory=dict)  # by state: not submitted without an explicit command
    over_limit: int = 0  # more than the queue accepts
    limit: str = ""  # the limit behind `over_limit`
    outdated: int = 0  # packs whose snapshot is of an older version, which this version cannot start


def select_packs(planned: Plan, found: SweepStatus, states: Collection[str], slots: FreeSlots | None) -> Selection:
    """The packs of `planned` to submit: those in one of `states`, at most as many as there are free `slots`."""
    chosen = Selection([])
    for pack in planned.packs:
        name = pack.folder.pack_id
        state = found.packs[name].state if name in found.packs else "missing"
        if state in states:
            chosen.packs.append(name)
        elif state in DONE_OR_QUEUED:
            chosen.already_queued += 1
        else:
            chosen.skipped[state] = chosen.skipped.get(state, 0) + 1
    if slots is not None:
        chosen.over_limit, chosen.limit = max(0, len(chosen.packs) - slots.packs), slots.limit
        chosen.packs = chosen.packs[: slots.packs]
    return chosen


def remaining_throttle(found: SweepStatus, throttle: int | None) -> tuple[int | None, list[str]]:
    """The throttle of a new submission, and the jobs it waits for: all arrays of a sweep share one `throttle`.

    A new array gets the part that earlier queued arrays do not use. If they use all of it, the new array starts after
    them, with the whole throttle.
    """
    if throttle is None:
        return None, []
    tasks: dict[str, set[int]] = {}
    for pack in found.packs.values():
        if pack.queued and pack.queued.job:
            tasks.setdefault(pack.queued.job, set()).add(pack.queued.index)
    used = 0
    for submission in found.submissions:
        for array in submission.arrays:
            left = len(tasks.get(array.job or "", ()))
            before = submission.arrays[array.behind].job if array.behind is not None else None
            if left and before not in tasks:
                used += min(array.throttle or left, left)
    if used < throttle:
        return throttle - used, []
    return throttle, sorted(tasks)


def array_sizes(tasks: int, limits: Limits | None) -> list[int]:
    """Numbers of tasks of arrays that are as equal as possible, each at most MaxArraySize."""
    count = -(-tasks // (limits.max_array_size if limits else DEFAULT_MAX_ARRAY_SIZE))
    return [tasks * (i + 1) // count - tasks * i // count for i in range(count)]


def number_of_jobs(packs: int, profile: Profile) -> int:
    """How many jobs train `packs` packs.

    Jobs that train several packs at once are not more than can run at once: in a job, the next pack starts when one
    ends, so no GPU waits for the last pack of its job.
    """
    jobs = -(-packs // profile.packs_per_job)
    return min(jobs, profile.throttle or jobs) if profile.packs_per_job > 1 else jobs


def group_by_snapshot(chosen: Selection, found: SweepStatus) -> list[tuple[Path | None, Selection]]:
    """`chosen` in parts, each with the snapshot that its packs were last submitted with.

    None is the current code. It is used for packs without a snapshot, and for packs whose snapshot is of an older
    version with other commands; `Selection.outdated` counts the latter.
    """
    kept = [submission for submission in found.submissions if submission.code.exists()]
    latest = {name: submission.code for submission in kept for name in submission.packs}
    startable = {code: snapshot.is_startable(code) for code in set(latest.values())}
    parts: dict[Path | None, Selection] = {}
    for name in chosen.packs:
        last = latest.get(name)
        outdated = last is not None and not startable[last]
        part = parts.setdefault(None if outdated else last, Selection([]))
        part.packs.append(name)
        part.outdated += outdated
    return list(parts.items())


def recover_job_ids(found: SweepStatus) -> int:
    """Record the ids of queued arrays that an interrupted process did not record; how many there were."""
    recovered = 0
    for submission in found.submissions:
        noted = note_job_ids(submission, found.jobs)
        if noted:
            submission.write()
            if submission.name not in found.report_jobs:
                backend_of(submission.profile).submit_report_job(submission, [])
        recovered += noted
    return recovered


def send(
    planned: Plan,
    found: SweepStatus,
    chosen: Selection,
    profile: Profile,
    limits: Limits | None,
    code: Path | None = None,
    after: Sequence[str] = (),
) -> SubmitResult:
    """Write the record of a submission, then start its jobs. The caller holds `sweep_lock`.

    The jobs run in the snapshot `code` (default: a new one of the current code), after the jobs `after` have ended.

    Raises:
        RecordError: if the record cannot be written; nothing was submitted then.
        SchedulerError: if no array was accepted.
    """
    parts = planned.sweep.sources_now
    if code is None:
        plugins.check_unchanged(parts)
    planned.write()
    folder = planned.folder.resolve()
    grid(folder)  # writes the index of runs, so that `status` builds no configuration
    with waiting("the copy of the code"):
        code = code or snapshot.save_snapshot(folder / "code", parts=parts)
    throttle, before = remaining_throttle(found, profile.throttle)
    arrays = array_sizes(number_of_jobs(len(chosen.packs), profile), limits)
    submission = new(folder, profile, code, arrays, throttle, packs=chosen.packs, after=[*after, *before])
    for name in chosen.packs:
        PackFolder(folder / "packs" / name).mark_cancelled(False)
    return start(submission, [job for job in found.jobs.values() if job])


def submit_workers(
    profile: Profile, command: Sequence[str], count: int, folder: Path, parts: Mapping[str, str] | None = None
) -> Submission:
    """Submit `count` jobs that each run `command` in a snapshot of this code; exit code 75 starts a worker again.

    The record and the logs are in `submissions/<n>/` under `folder`. The jobs get the variables of this process.
    Secrets in them are neither in the script nor in the record. `parts` are the user's own parts that the jobs need,
    with the hash of each one's file.

    Raises:
        RecordError: if the record cannot be written, or a part has changed.
        SchedulerError: if the scheduler refuses, or does not answer.
    """
    plugins.check_unchanged(parts or {})
    folder = folder.resolve()
    export = str(profile.sbatch.get("export", "ALL"))
    if os.environ.get(STORAGE_VARIABLE) and not {"ALL", STORAGE_VARIABLE} & set(export.split(",")):
        raise SchedulerError(
            f"profile {profile.name}: sbatch.export: with {export}, jobs do not get {STORAGE_VARIABLE}; add it"
        )
    limits = backend_of(profile).limits(profile)
    with sweep_lock(folder):
        code = snapshot.save_snapshot(folder / "code", parts=parts or {})
        submission = new(folder, profile, code, array_sizes(count, limits), command=list(command), workers=count)
        result = start(submission, [])
    if result.refused:
        raise SchedulerError(result.refused)
    return result.submission


def live_workers(folder: Path) -> int | None:
    """How many workers of the search in `folder` are running or queued; None if a scheduler does not answer."""
    sent = [submission for submission in submissions(folder.resolve()) if submission.command]
    try:
        jobs = queue_of(sent)
    except SchedulerError:
        return None
    return sum(len(jobs.get(array.name, {})) for submission in sent for array in submission.arrays)


def start(submission: Submission, earlier: Sequence[str]) -> SubmitResult:
    """Write the files of `submission`, then start its jobs. Its report job waits also for the jobs `earlier`.

    Raises:
        RecordError: if a file cannot be written.
        SchedulerError: if no array was accepted.
    """
    refuse_links(submission.folder)
    (submission.folder / "logs").mkdir(parents=True)
    (submission.folder / "logs").chmod(0o700)  # a job may print its environment
    if submission.packs:
        lines = [" ".join(packs) + "\n" for _, _, packs in submission.tasks()]
        replace_file(submission.folder / "packs.txt", "".join(lines).encode())
    submission.write()
    return backend_of(submission.profile).submit(submission, earlier)
