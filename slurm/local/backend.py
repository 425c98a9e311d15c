"""The backend of this machine: one supervisor process per submission starts its packs."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path

from scorer_core.support.errors import RecordError
from scorer_core.support.waiting import waiting
from slurm.backend import Finding, FreeSlots, Limits, Queue, QueuedJob, SubmitResult
from slurm.local import supervisor
from slurm.profile import Profile
from slurm.submissions.submission import JobArray, Submission


class LocalBackend:
    """Runs packs on this machine; `slurm.backend.Backend` describes the methods.

    Its jobs have no ids, so they are not throttled or held, and no job waits for them.
    """

    on_this_machine = True
    has_job_ids = False

    def limits(self, profile: Profile) -> Limits:
        return Limits(sys.maxsize, None)

    def free_slots(self, profile: Profile, limits: Limits) -> FreeSlots | None:
        return None

    def layout(self, profile: Profile, lanes: int | None, processes: int | None) -> tuple[int | None, int | None]:
        return lanes or profile.lanes, processes or profile.processes

    def submit(self, submission: Submission, earlier: Sequence[str]) -> SubmitResult:
        with waiting("the process that starts the packs"):
            supervisor.start(submission)
        return SubmitResult(submission, len(submission.packs))

    def submit_report_job(self, submission: Submission, earlier: Sequence[str]) -> str:
        return ""  # the supervisor draws the report

    def queue(self, submissions: Sequence[Submission], unreadable: list[str] | None = None) -> Queue:
        jobs: Queue = {}
        for submission in submissions:
            try:
                jobs |= supervisor.queue(submission)
            except RecordError as error:
                if unreadable is None:
                    raise
                unreadable.append(str(error))
        return jobs

    def is_queued(self, job: str) -> bool:
        return False

    def final_states(self, jobs: Sequence[str]) -> dict[tuple[str, int], str]:
        return {}

    def cancel(self, tasks: Set[QueuedJob], reports: Set[QueuedJob]) -> None:
        pass  # the supervisor stops packs that are marked as cancelled

    def release(self, tasks: Iterable[QueuedJob]) -> None:
        pass

    def set_throttle(
        self, submissions: Sequence[Submission], queued: Mapping[str, Mapping[int, QueuedJob]], throttle: int
    ) -> tuple[int, int]:
        return 0, 0

    def job_log(self, submission: Submission, array: JobArray, index: int, started: bool) -> Path | None:
        return None if started else submission.folder / "logs" / "supervisor.log"  # one log for all packs

    def script(self, submission: Submission) -> str:
        return ""

    def check_profile(self, profile: Profile) -> list[Finding]:
        return [Finding("ok", "scheduler", "this machine; there are no limits on the number of jobs")]

    def run_check_job(
        self, profile: Profile, outputs: Path, timeout: float, on_wait: Callable[[str], None]
    ) -> list[Finding]:
        return []
