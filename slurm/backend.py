"""Where packs run: one protocol, `Backend`, with one implementation per scheduler. `backend_of` chooses it.

`slurm/cluster/backend.py` submits job arrays to Slurm. `slurm/local/backend.py` starts processes on this machine. No
other file compares `Profile.scheduler`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

from slurm.profile import Profile
from slurm.submissions.submission import JobArray, Submission

DEFAULT_MAX_ARRAY_SIZE = 1001  # Slurm's default, if Slurm does not answer


class SchedulerError(Exception):
    """The scheduler refused, or did not answer. The message is one line."""


class SubmissionUnknownError(SchedulerError):
    """A job was submitted, and the answer does not say whether the job is in the queue."""


@dataclass(frozen=True)
class QueuedJob:
    """A job in the queue: `running`, or `pending` for a reason."""

    state: str
    reason: str = ""
    where: str = ""  # its nodes
    job: str = ""  # id of its array; empty where jobs have no ids
    index: int = 0

    @property
    def task(self) -> tuple[str, int]:
        """The id and the index, which no other job has."""
        return self.job, self.index

    @property
    def held(self) -> bool:
        """Does it wait until somebody releases it? Slurm holds a job that a node failed to launch."""
        return "held" in self.reason.lower() and "admin" not in self.reason.lower()


Queue = dict[str, dict[int, QueuedJob]]  # by the name of the array, then by index


@dataclass(frozen=True)
class Limits:
    """How much one submission may ask for."""

    max_array_size: int  # one more than the largest index
    max_submit: int | None  # queued jobs of this user; None: no limit is known


@dataclass(frozen=True)
class FreeSlots:
    """How many more packs the queue accepts, and the limit behind this number."""

    packs: int
    limit: str


@dataclass
class SubmitResult:
    """How many packs of a submission are in the queue."""

    submission: Submission
    packs: int
    refused: str = ""  # why not all were accepted
    interrupted: bool = False  # by Ctrl-C, before all were submitted


Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of `profile check`: the result of one check, and what to do about it if anything."""

    level: Level
    subject: str
    found: str
    advice: str = ""


class Backend(Protocol):
    """Where packs run. All methods raise `SchedulerError` if the scheduler refuses or does not answer."""

    on_this_machine: bool
    """Do the packs share the cores of this machine? Then its speed gives the estimated time."""

    has_job_ids: bool
    """Does a scheduler give each job an id? Without ids, jobs are not throttled and cannot wait for other jobs."""

    def limits(self, profile: Profile) -> Limits:
        """The limits on one submission under `profile`."""
        ...

    def free_slots(self, profile: Profile, limits: Limits) -> FreeSlots | None:
        """How many more packs the queue accepts; None if no limit is known."""
        ...

    def layout(self, profile: Profile, lanes: int | None, processes: int | None) -> tuple[int | None, int | None]:
        """The maximum lanes per pack and the packs at a time to plan for; None: the planner chooses."""
        ...

    def submit(self, submission: Submission, earlier: Sequence[str]) -> SubmitResult:
        """Start a submission whose files are on disk. Its report job waits also for the jobs `earlier`.

        Raises:
            RecordError: if its record cannot be written.
            SubmissionUnknownError: if it is not known whether a job is in the queue.
            SchedulerError: if no job was accepted.
        """
        ...

    def submit_report_job(self, submission: Submission, earlier: Sequence[str]) -> str:
        """Submit the job that draws the report, if the submission has one; why it was refused, or an empty string."""
        ...

    def queue(self, submissions: Sequence[Submission], unreadable: list[str] | None = None) -> Queue:
        """The jobs of `submissions` that run or wait, report jobs included, with as few calls as possible.

        With `unreadable`, a queue that cannot be read is left out and the reason is added.

        Raises:
            RecordError: if a queue cannot be read, without `unreadable`.
        """
        ...

    def is_queued(self, job: str) -> bool:
        """Is the job with this id in the queue?"""
        ...

    def final_states(self, jobs: Sequence[str]) -> dict[tuple[str, int], str]:
        """How the tasks of the arrays `jobs` ended, by id and index; empty without accounting."""
        ...

    def cancel(self, tasks: Set[QueuedJob], reports: Set[QueuedJob]) -> None:
        """Cancel tasks of arrays, and report jobs. The caller has marked their packs as cancelled."""
        ...

    def release(self, tasks: Iterable[QueuedJob]) -> None:
        """Release held tasks, so that they can start."""
        ...

    def set_throttle(
        self, submissions: Sequence[Submission], queued: Mapping[str, Mapping[int, QueuedJob]], throttle: int
    ) -> tuple[int, int]:
        """Let all queued arrays together run at most `throttle` tasks; how many arrays, and tasks that run now."""
        ...

    def job_log(self, submission: Submission, array: JobArray, index: int, started: bool) -> Path | None:
        """The log of task `index` of `array`, apart from the logs of its attempts.

        None if the log says nothing about this task alone; `started` says whether an attempt of it has started.
        """
        ...

    def script(self, submission: Submission) -> str:
        """The job script of the first array; empty if there is none."""
        ...

    def check_profile(self, profile: Profile) -> list[Finding]:
        """Compare `profile` with what the scheduler allows, without submitting a job."""
        ...

    def run_check_job(
        self, profile: Profile, outputs: Path, timeout: float, on_wait: Callable[[str], None]
    ) -> list[Finding]:
        """Submit a short job that checks its node, and wait `timeout` seconds for it; nothing without a scheduler."""
        ...


@cache
def _backend(scheduler: Literal["slurm", "local"]) -> Backend:
    if scheduler == "local":
        from slurm.local.backend import LocalBackend

        return LocalBackend()
    from slurm.cluster.backend import SlurmBackend

    return SlurmBackend()


def backend_of(profile: Profile) -> Backend:
    """The backend that runs the jobs of `profile`, always the same object for one scheduler."""
    return _backend(profile.scheduler)


def by_backend(submissions: Iterable[Submission]) -> dict[Backend, list[Submission]]:
    """`submissions` grouped by where they run, in the same order."""
    groups: dict[Backend, list[Submission]] = {}
    for submission in submissions:
        groups.setdefault(backend_of(submission.profile), []).append(submission)
    return groups


def queue_of(submissions: Iterable[Submission]) -> Queue:
    """The jobs of `submissions` that run or wait, wherever they run.

    Raises:
        RecordError: if a queue cannot be read.
        SchedulerError: if a scheduler does not answer.
    """
    jobs: Queue = {}
    for backend, some in by_backend(submissions).items():
        jobs |= backend.queue(some)
    return jobs
