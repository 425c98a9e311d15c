"""The state of every run of a sweep, from the files and from the scheduler's queue.

A run is done exactly when a `done.json` names it. A job in the queue is running or pending. If the scheduler answers
and a job is not in its queue, its pack has failed (its state file says so), was cancelled (a marker file says so) or is
lost. If the scheduler does not answer, a pack with a recent heartbeat is running, and all others that were submitted
are `unknown`. A pack that no process trains is `damaged` if its pack.json, done.json or metrics are not what was
written; this does not affect other packs.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from scorer_core.pack_folders import ignored_folders, pack_folders
from scorer_core.record_forms import Time, now, read_record
from scorer_core.records import PackFolder
from scorer_core.support.commands import command_on
from scorer_core.support.errors import RecordError
from scorer_core.support.text import duration
from slurm.backend import Queue, QueuedJob, SchedulerError, backend_of, by_backend
from slurm.cluster import losses
from slurm.profile import profiles
from slurm.submissions.submission import JobArray, Submission, submissions
from sweeps.grid import Grid, GridRun, grid

STATES = ("done", "diverged", "running", "pending", "failed", "lost", "damaged", "cancelled", "unknown", "missing")
FRESH_SECONDS = 120.0  # a heartbeat at most this old means that the job runs, even if the scheduler does not answer
MISSING = "missing.json"  # next to the submissions: the runs that the report lacks
SETTLE_SECONDS = 5.0  # on a shared file system, a file of another node appears with a delay


class MadeReport(BaseModel):
    """submissions/missing.json: what the report job wrote."""

    time: Time
    report: bool
    runs: dict[str, Any]


@dataclass(eq=False)  # hashable: a table with a run per line looks up the packs of all runs
class PackStatus:
    """One pack: its state is that of its runs, unless `done` names them one by one."""

    folder: PackFolder
    run_ids: list[str]
    done: dict[str, dict[str, Any]]
    heartbeat: dict[str, Any]
    halved_from: str | None = None
    state: str = "missing"
    note: str = ""
    submission: str = ""  # the newest one with this pack
    array: JobArray | None = None
    index: int = 0
    queued: QueuedJob | None = None
    damage: str = ""  # its damaged file, and what is wrong with it
    stopping: bool = False  # it was cancelled, and its process has not ended so far

    def state_of(self, run_id: str) -> str:
        return self.done[run_id]["status"] if run_id in self.done and self.state != "damaged" else self.state

    @property
    def speed(self) -> float:
        """Environment steps per second, summed over lanes; 0 unless it runs."""
        return self.heartbeat.get("steps_per_second") or 0.0 if self.state == "running" else 0.0

    @property
    def steps_to_go(self) -> int:
        beat = self.heartbeat
        return (beat.get("total_steps", 0) - beat.get("step", 0)) * beat.get("lanes", 0)


class RunStatus(NamedTuple):
    """One run of the sweep definition, its pack and its state."""

    run: GridRun
    pack: PackStatus | None
    state: str


@dataclass
class SweepStatus:
    """The states of all runs and packs of a sweep, its submissions and what needs attention."""

    folder: Path
    question: str
    cells: list[RunStatus]
    packs: dict[str, PackStatus]
    submissions: list[Submission]
    scheduler_error: str = ""  # why the scheduler did not answer
    problems: list[str] = field(default_factory=list)  # unreadable records, except those of damaged packs
    report: MadeReport | None = None  # of the newest submission, once it is made
    report_jobs: dict[str, QueuedJob] = field(default_factory=dict)  # queued report jobs, by submission
    jobs: dict[str, str] = field(default_factory=dict)  # id of each array in the queue, by name
    advice: list[str] = field(default_factory=list)  # what to fix before the lost runs are resubmitted


def read_status(folder: Path, accounting: bool = True, tolerant: bool = False) -> SweepStatus:
    """Read the status of the sweep in `folder`: calls squeue at most once, and sacct once if runs are lost.

    With `accounting` False, sacct is not called. `tolerant` is for commands that only show: a submission that cannot be
    read is one of the problems, and an unfinished pack that it may contain is `unknown`.

    Raises:
        RecordError: if a folder cannot be read, or, unless `tolerant`, a submission.
    """
    # In this order: a job that has left the queue has written its last record before the packs are read.
    unreadable: list[str] = []
    sent = submissions(folder, unreadable if tolerant else None)
    problems = ignored_folders(folder / "packs")
    report = None
    try:
        report = _report_of(folder, sent)
    except RecordError as error:
        problems.append(str(error))
    jobs, scheduler_error = _queue(sent, folder / "packs", report is not None, unreadable if tolerant else None)
    problems += unreadable
    packs = _read_packs(folder / "packs", problems)
    places = {
        name: (submission, array, index)
        for submission in sent
        if submission.packs
        for array, index, share in submission.tasks()
        for name in share
    }
    queued = _queued(sent, jobs)
    reports = {s.name: jobs[s.report_job.name][0] for s in sent if s.report_job and s.report_job.name in jobs}
    names = [array.name for submission in sent for array in submission.arrays if jobs.get(array.name)]
    numbers = {name: next(iter(jobs[name].values())).job for name in names}
    for name, pack in packs.items():
        place = places.get(name) or places.get(pack.halved_from or "")
        if pack.done and not pack.damage:
            pack.state = "done"
        elif place:
            submission, pack.array, pack.index = place
            pack.submission = submission.name
            pack.queued = _job_of(pack, queued.get(name) or queued.get(pack.halved_from or "") or [])
            _judge(pack, submission, scheduler_error or "; ".join(unreadable))
        else:
            _judge_without_submission(pack)
            if unreadable and pack.state in ("missing", "lost"):
                pack.state, pack.note = "unknown", "a submission cannot be read"
        if pack.damage and pack.state not in ("running", "pending"):
            pack.state, pack.note = "damaged", pack.damage
    if accounting and not scheduler_error:
        _add_final_states(packs.values(), sent)
    advice = _explain_the_lost(packs.values(), sent, folder)
    by_run = {run_id: pack for pack in packs.values() for run_id in pack.run_ids}
    known = grid(folder) if (folder / "sweep.yaml").exists() else Grid(folder.name, "", [])
    runs = [_cell(run, by_run.get(run.run_id)) for run in known.runs]
    return SweepStatus(
        folder, known.question, runs, packs, sent, scheduler_error, problems, report, reports, numbers, advice
    )


def _cell(run: GridRun, pack: PackStatus | None) -> RunStatus:
    return RunStatus(run, pack, pack.state_of(run.run_id) if pack else "missing")


def _report_of(folder: Path, sent: Sequence[Submission]) -> MadeReport | None:
    """The record of the report job of the newest submission; None if it has not ended."""
    made = read_record(folder / "submissions" / MISSING, MadeReport)
    newest = max((submission.time for submission in sent if submission.packs), default="")
    return made if made and made.time >= newest else None


def _read_packs(packs: Path, problems: list[str]) -> dict[str, PackStatus]:
    """Two small files per pack, and the metrics parts of a finished one; configurations are not built."""
    found = {}
    for pack in pack_folders(packs):
        state = PackStatus(pack, [], {}, {})
        try:
            state.done = pack.verified_done()
            state.run_ids = list(state.done)
            if not state.done:
                state.run_ids, state.halved_from = pack.run_ids_and_origin()
        except RecordError as error:
            state.damage = str(error)
            with suppress(RecordError):
                state.done = pack.done()
            state.run_ids = list(state.done or pack.known_runs())
        if not state.done:
            try:
                state.heartbeat = pack.state()
            except RecordError as error:
                problems.append(str(error))
        found[pack.pack_id] = state
    return found


def _queue(sent: Sequence[Submission], packs: Path, reported: bool, unreadable: list[str] | None) -> tuple[Queue, str]:
    """The jobs of the submissions `sent` that run or wait, and why a scheduler did not answer.

    No scheduler is asked if all packs are done and the report is drawn. With `unreadable`, a local queue that cannot
    be read is left out and the reason added.
    """
    jobs: Queue = {}
    errors = []
    if reported and all((pack.path / "done.json").exists() for pack in pack_folders(packs)):
        return jobs, ""
    for backend, some in by_backend(sent).items():
        try:
            jobs |= backend.queue(some, unreadable)
        except SchedulerError as error:
            errors.append(str(error))
    return jobs, "; ".join(errors)


@dataclass(frozen=True)
class _Task:
    """A task in the queue, with what decides whether it trains one of its packs."""

    submission: str
    alone: bool  # has the task only one pack?
    job: QueuedJob


def _queued(sent: Sequence[Submission], jobs: Queue) -> dict[str, list[_Task]]:
    """The tasks in the queue that have each pack, oldest first."""
    queued: dict[str, list[_Task]] = {}
    for submission in sent:
        for array in submission.arrays if submission.packs else ():
            for index, job in jobs.get(array.name, {}).items():
                share = submission.share(array, index)
                for name in share:
                    queued.setdefault(name, []).append(_Task(submission.name, len(share) == 1, job))
    return queued


def _job_of(pack: PackStatus, tasks: Iterable[_Task]) -> QueuedJob | None:
    """The job that trains this pack, or else the newest one that will.

    A job with several packs does not start one again that has failed or was cancelled, and some wait for others.
    """
    found = None
    for task in tasks:
        job = task.job
        if not task.alone:
            phase = pack.heartbeat.get("phase") if pack.heartbeat.get("submission") == task.submission else None
            trains = job.state == "running" and phase in ("starting", "training")
            if not trains and (phase == "failed" or pack.folder.cancelled):
                continue
            if job.state == "running" and not trains:
                job = replace(job, state="pending", reason="other packs of its job run first")
        if found is None or found.state != "running" or job.state == "running":
            found = job
    return found


def _judge(pack: PackStatus, submission: Submission, scheduler_error: str) -> None:
    """Set the state of a pack that was submitted and is not done."""
    beat, queued = pack.heartbeat, pack.queued
    recorded = beat.get("submission") == submission.name  # otherwise it is of an earlier submission
    phase = beat.get("phase") if recorded else None
    seconds = age(beat["time"]) if recorded else submission.seconds_old
    if queued and queued.state == "running":
        pack.state, pack.stopping = "running", pack.folder.cancelled
        pack.note = "stopping: cancelled" if pack.stopping else f"on {queued.where}" if queued.where else ""
        if phase == "training" and seconds > FRESH_SECONDS:
            pack.note += f", no heartbeat for {seconds / 60:.0f} min"
    elif queued:
        pack.state, pack.note = "pending", queued.reason
    elif phase == "failed":
        pack.state, pack.note = "failed", beat.get("error", "no reason was recorded")
    elif pack.folder.cancelled:
        pack.state, pack.note = "cancelled", f"at step {beat['step']:,}" if beat.get("step") else ""
    elif scheduler_error:
        alive = phase in ("training", "starting") and seconds < FRESH_SECONDS
        pack.state, pack.note = ("running", "by its heartbeat") if alive else ("unknown", "")
    elif pack.array and pack.array.job is None and backend_of(submission.profile).has_job_ids and not recorded:
        pack.state, pack.note = "missing", "was never accepted by Slurm"
    elif seconds < SETTLE_SECONDS and phase not in ("interrupted", "killed"):
        pack.state, pack.note = "unknown", "just left the queue"
    else:
        pack.state, pack.note = "lost", _last_record(beat) if recorded else losses.NO_RECORD


def _judge_without_submission(pack: PackStatus) -> None:
    """Set the state of a pack that `scorer run` trains or has left: the process that trains it holds the lock."""
    phase = pack.heartbeat.get("phase")
    if phase is None:
        return
    try:
        with pack.folder.lock() as free:
            alive = not free
    except RecordError as error:  # another user's folder, for instance
        pack.state, pack.note = "unknown", str(error)
        return
    if alive:
        pack.state, pack.note = "running", "by scorer run"
    elif phase == "failed":
        pack.state, pack.note = "failed", pack.heartbeat.get("error", "no reason was recorded")
    else:
        pack.state, pack.note = "lost", _last_record(pack.heartbeat)


def _last_record(beat: dict[str, Any]) -> str:
    """How, at which step, when and where the last attempt ended, from its heartbeat."""
    interrupted = {"interrupted": "stopped by a signal", "killed": beat.get("error", "killed")}
    how = interrupted.get(beat.get("phase", ""), "last seen")
    where = f" on {beat['host']}" if "host" in beat else ""
    return f"{how} at step {beat.get('step', 0):,}, {duration(age(beat['time']))} ago{where}"


def age(time: str) -> float:
    """Seconds since `time`, as `records.now` wrote it."""
    return max(0.0, (datetime.fromisoformat(now()) - datetime.fromisoformat(time)).total_seconds())


def _add_final_states(packs: Iterable[PackStatus], sent: Sequence[Submission]) -> None:
    """Add how its job ended to each lost pack, where accounting has recorded it."""
    lost = [pack for pack in packs if pack.state == "lost" and pack.array and pack.array.job]
    if not lost:
        return
    for backend, some in by_backend(sent).items():
        names = {submission.name for submission in some}
        here = [(pack, pack.array.job, pack.index) for pack in lost if pack.submission in names and pack.array]
        ended = backend.final_states(sorted({job for _, job, _ in here if job}))
        for pack, job, index in here:
            if how := ended.get((job or "", index)):
                pack.note = f"{how}: {pack.note}"


def _explain_the_lost(packs: Iterable[PackStatus], sent: Sequence[Submission], folder: Path) -> list[str]:
    """Add the line of its job's log that explains the loss to each lost pack; return what to do about these reasons."""
    by_name = {submission.name: submission for submission in sent}
    lost = [pack for pack in packs if pack.state == "lost" and pack.array]
    advice: set[str] = set()
    known = profiles() if lost else []
    for pack in lost[: losses.MOST_LOGS]:
        assert pack.array
        submission, started = by_name[pack.submission], losses.NO_RECORD not in pack.note
        log = backend_of(submission.profile).job_log(submission, pack.array, pack.index, started)
        if log is None:
            continue
        by_accounting = losses.reason(pack.note)  # out of memory, for instance
        loss = losses.explain(log, last_line=not started)
        if loss:
            pack.note = f"{pack.note}: {loss.line}"
        elif not started and not log.exists():
            pack.note += f", and there is no {log}: it was cancelled before it started, or its node lacks this folder"
        profile = submission.profile.name if submission.profile.name in known else "PROFILE"
        change = (loss and loss.advice) or (by_accounting and by_accounting.advice) or ""
        if change:
            changed = command_on("retry", folder, "--profile", profile)
            resume, retry = command_on("resume", folder), command_on("retry", folder)
            advice.add(change.format(resume=resume, retry=retry, retry_changed=changed))
    return sorted(advice)
