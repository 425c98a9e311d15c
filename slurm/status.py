"""Where every run of a sweep stands: what the files say, and what the scheduler has, put together.

A run is done exactly when a `done.json` names it. What the scheduler has is running or pending. What it does not have,
though it answered, failed (its state says so), was cancelled (a marker says so) or is lost. Where it does not answer,
a fresh heartbeat is a running run, and everything else that was submitted is `unknown`, never dead. A pack that nothing
trains and whose pack.json, done.json or metrics are not what was written is `damaged`; other packs are not affected.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from scorer_core.pack_folders import other_folders, pack_folders
from scorer_core.record_forms import Time, now, read_record
from scorer_core.records import PackFolder
from scorer_core.support.commands import command_on
from scorer_core.support.errors import RecordError
from scorer_core.support.text import duration
from slurm.cluster import losses, scheduler
from slurm.cluster.scheduler import QueuedJob, SchedulerError
from slurm.local import supervisor as local
from slurm.profile import profiles
from slurm.submissions.submission import JobArray, Submission, submissions
from sweeps.grid import Grid, GridRun, grid

STATES = ("done", "diverged", "running", "pending", "failed", "lost", "damaged", "cancelled", "unknown", "missing")
FRESH_SECONDS = 120.0  # a heartbeat no older is a living job, even where the scheduler is silent
MISSING = "missing.json"  # beside the submissions: which runs the report does without
SETTLE_SECONDS = 5.0  # file systems of a cluster show a file of another node a little later


class MadeReport(BaseModel):
    """submissions/missing.json: what the report job wrote."""

    time: Time
    report: bool
    runs: dict[str, Any]


@dataclass
class PackStatus:
    """One pack: its state is that of its runs, unless `done` names them one by one."""

    folder: PackFolder
    run_ids: list[str]
    done: dict[str, dict[str, Any]]
    heartbeat: dict[str, Any]
    halved_from: str | None = None
    state: str = "missing"
    note: str = ""
    submission: str = ""  # the newest that has it
    request: JobArray | None = None
    index: int = 0
    queued: QueuedJob | None = None
    damage: str = ""  # which file of it is damaged, and how
    stopping: bool = False  # it was cancelled, and its process has not ended so far

    def state_of(self, run_id: str) -> str:
        return self.done[run_id]["status"] if run_id in self.done and self.state != "damaged" else self.state

    @property
    def speed(self) -> float:
        """Environment steps a second, all lanes together; 0 unless it runs."""
        return self.heartbeat.get("steps_per_second") or 0.0 if self.state == "running" else 0.0

    @property
    def steps_to_go(self) -> int:
        beat = self.heartbeat
        return (beat.get("total_steps", 0) - beat.get("step", 0)) * beat.get("lanes", 0)


@dataclass(frozen=True)
class RunStatus:
    """One run of the sweep as defined, and where it stands."""

    run: GridRun
    pack: PackStatus | None
    state: str


@dataclass
class SweepStatus:
    folder: Path
    question: str
    cells: list[RunStatus]
    packs: dict[str, PackStatus]
    submissions: list[Submission]
    scheduler_error: str = ""  # why the scheduler's side is missing
    problems: list[str] = field(default_factory=list)  # records that cannot be read, but for those of damaged packs
    report: MadeReport | None = None  # of the newest submission, once it is made
    report_jobs: dict[str, QueuedJob] = field(default_factory=dict)  # jobs that will draw the report, by submission
    jobs: dict[str, str] = field(default_factory=dict)  # Slurm's number of each array that it has, by name
    advice: list[str] = field(default_factory=list)  # what to change before the lost runs are submitted again


def read_status(folder: Path, accounting: bool = True, tolerant: bool = False) -> SweepStatus:
    """Everything about the sweep in `folder`: at most one call of squeue, and one of sacct if runs are lost.

    `tolerant` is for commands that only show: a submission that cannot be read is one of the problems, and an
    unfinished pack that it may have is `unknown`.

    Raises:
        RecordError: if a folder cannot be read, or, unless `tolerant`, a submission.
    """
    # In this order: a job that is not in the queue has written its last word by the time that the packs are read.
    unreadable: list[str] = []
    sent = submissions(folder, unreadable if tolerant else None)
    problems = [f"{path}: is not named like a pack and is not read" for path in other_folders(folder / "packs")]
    report = None
    try:
        report = _report_of(folder, sent)
    except RecordError as error:
        problems.append(str(error))
    jobs, silence = _jobs(sent, folder / "packs", report is not None, unreadable if tolerant else None)
    problems += unreadable
    packs = _read_packs(folder / "packs", problems)
    places = {
        name: (submission, request, index)
        for submission in sent
        if submission.packs
        for request in submission.requests
        for index, name in enumerate(submission.packs[request.first : request.first + request.count])
    }
    live = _live(sent, jobs)
    last = {s.name: jobs[s.last.name][0] for s in sent if s.last and s.last.name in jobs}
    names = [request.name for submission in sent for request in submission.requests if jobs.get(request.name)]
    numbers = {name: next(iter(jobs[name].values())).job for name in names}
    for name, pack in packs.items():
        place = places.get(name) or places.get(pack.halved_from or "")
        if pack.done and not pack.damage:
            pack.state = "done"
        elif place:
            submission, pack.request, pack.index = place
            pack.submission = submission.name
            pack.queued = live.get(name) or live.get(pack.halved_from or "")
            _judge(pack, submission, silence or "; ".join(unreadable))
        else:
            _judge_without_submission(pack)
            if unreadable and pack.state in ("missing", "lost"):
                pack.state, pack.note = "unknown", "a submission cannot be read"
        if pack.damage and pack.state not in ("running", "pending"):
            pack.state, pack.note = "damaged", pack.damage
    if accounting and not silence:
        _ask_how_the_lost_ended(packs.values())
    advice = _explain_the_lost(packs.values(), sent, folder)
    by_run = {run_id: pack for pack in packs.values() for run_id in pack.run_ids}
    known = grid(folder) if (folder / "sweep.yaml").exists() else Grid(folder.name, "", [])
    runs = [_cell(run, by_run.get(run.run_id)) for run in known.runs]
    return SweepStatus(folder, known.question, runs, packs, sent, silence, problems, report, last, numbers, advice)


def _cell(run: GridRun, pack: PackStatus | None) -> RunStatus:
    return RunStatus(run, pack, pack.state_of(run.run_id) if pack else "missing")


def _report_of(folder: Path, sent: Sequence[Submission]) -> MadeReport | None:
    """What the last job of the newest submission wrote about the report; None if it has not come so far."""
    made = read_record(folder / "submissions" / MISSING, MadeReport)
    newest = max((submission.time for submission in sent if submission.packs), default="")
    return made if made and made.time >= newest else None


def _read_packs(packs: Path, problems: list[str]) -> dict[str, PackStatus]:
    """Two small files per pack, and the metrics parts of a finished one; configurations are not built."""
    found = {}
    for pack in pack_folders(packs):
        state = PackStatus(pack, [], {}, {})
        try:
            state.done = pack.done()
            if state.done:
                state.run_ids = list(state.done)
                pack.verify()
            else:
                state.run_ids, state.halved_from = pack.run_ids_and_origin()
        except RecordError as error:
            state.damage = str(error)
            state.run_ids = state.run_ids or list(pack.known_runs())
        if not state.done:
            try:
                state.heartbeat = pack.state()
            except RecordError as error:
                problems.append(str(error))
        found[pack.pack_id] = state
    return found


def _jobs(
    sent: Sequence[Submission], packs: Path, reported: bool, unreadable: list[str] | None
) -> tuple[dict[str, dict[int, QueuedJob]], str]:
    """What the schedulers have, by the name of the request and its index; and why Slurm does not say.

    With `unreadable`, a local queue that cannot be read is left out and the reason added.
    """
    jobs: dict[str, dict[int, QueuedJob]] = {}
    for submission in sent:
        if submission.profile.scheduler == "local":
            try:
                jobs |= local.queue(submission)
            except RecordError as error:
                if unreadable is None:
                    raise
                unreadable.append(str(error))
    if all(submission.profile.scheduler == "local" for submission in sent):
        return jobs, ""
    if reported and all((pack.path / "done.json").exists() for pack in pack_folders(packs)):
        return jobs, ""
    try:
        return jobs | scheduler.queue(), ""
    except SchedulerError as error:
        return jobs, str(error)


def _live(sent: Sequence[Submission], jobs: dict[str, dict[int, QueuedJob]]) -> dict[str, QueuedJob]:
    """What any submission, not only the newest, has queued, by pack; of two the one that runs."""
    live: dict[str, QueuedJob] = {}
    for submission in sent:
        for request in submission.requests if submission.packs else ():
            for index, queued in jobs.get(request.name, {}).items():
                name = submission.packs[request.first + index]
                if name not in live or queued.state == "running":
                    live[name] = queued
    return live


def _judge(pack: PackStatus, submission: Submission, silence: str) -> None:
    """The state of a pack that was submitted and is not done."""
    beat, queued = pack.heartbeat, pack.queued
    said = beat.get("series") == submission.name  # an older attempt's last words say nothing of this submission
    phase = beat.get("phase") if said else None
    silent_for = age(beat["time"]) if said else submission.seconds_old
    if queued and queued.state == "running":
        pack.state, pack.stopping = "running", pack.folder.cancelled
        pack.note = "stopping: cancelled" if pack.stopping else f"on {queued.where}" if queued.where else ""
        if phase == "training" and silent_for > FRESH_SECONDS:
            pack.note += f", no heartbeat for {silent_for / 60:.0f} min"
    elif queued:
        pack.state, pack.note = "pending", queued.reason
    elif phase == "failed":
        pack.state, pack.note = "failed", beat.get("error", "no reason was recorded")
    elif pack.folder.cancelled:
        pack.state, pack.note = "cancelled", f"at step {beat['step']:,}" if beat.get("step") else ""
    elif silence:
        alive = phase in ("training", "starting") and silent_for < FRESH_SECONDS
        pack.state, pack.note = ("running", "by its heartbeat") if alive else ("unknown", "")
    elif pack.request and pack.request.job is None and submission.profile.scheduler == "slurm" and not said:
        pack.state, pack.note = "missing", "was never accepted by Slurm"
    elif silent_for < SETTLE_SECONDS and phase not in ("interrupted", "killed"):
        pack.state, pack.note = "unknown", "just left the queue"
    else:
        pack.state, pack.note = "lost", _last_words(beat) if said else losses.NO_RECORD


def _judge_without_submission(pack: PackStatus) -> None:
    """`scorer run` left it, or is at it: who trains holds the lock."""
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
        pack.state, pack.note = "lost", _last_words(pack.heartbeat)


def _last_words(beat: dict[str, Any]) -> str:
    how = {"interrupted": "told to stop", "killed": beat.get("error", "killed")}.get(beat.get("phase", ""), "last seen")
    where = f" on {beat['host']}" if "host" in beat else ""
    return f"{how} at step {beat.get('step', 0):,}, {duration(age(beat['time']))} ago{where}"


def age(time: str) -> float:
    """Seconds since `time`, as `records.now` wrote it."""
    return max(0.0, (datetime.fromisoformat(now()) - datetime.fromisoformat(time)).total_seconds())


def _ask_how_the_lost_ended(packs: Iterable[PackStatus]) -> None:
    """Accounting, where there is any, knows more than that a job is gone."""
    lost = [pack for pack in packs if pack.state == "lost" and pack.request and pack.request.job]
    ended = scheduler.final_states(sorted({pack.request.job for pack in lost if pack.request and pack.request.job}))
    for pack in lost:
        how = ended.get((pack.request.job or "", pack.index)) if pack.request else None
        if how:
            pack.note = f"{how}: {pack.note}"


def _explain_the_lost(packs: Iterable[PackStatus], sent: Sequence[Submission], folder: Path) -> list[str]:
    """Add the line of its job's log that explains the loss to each lost pack; what to do about these reasons."""
    by_name = {submission.name: submission for submission in sent}
    lost = [pack for pack in packs if pack.state == "lost" and pack.request]
    advice: set[str] = set()
    known = profiles() if lost else []
    for pack in lost[: losses.MOST_LOGS]:
        assert pack.request
        submission, started = by_name[pack.submission], losses.NO_RECORD not in pack.note
        if started and submission.profile.scheduler == "local":
            continue  # there the log is of all packs
        log = submission.job_log(pack.request, pack.index)
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
