"""The backend of a Slurm cluster: job arrays are submitted with sbatch, and squeue and sacct report what they do."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from scorer_core.support.text import count
from slurm.backend import (
    Finding,
    FreeSlots,
    Limits,
    Queue,
    QueuedJob,
    SchedulerError,
    SubmissionUnknownError,
    SubmitResult,
)
from slurm.cluster import cancelling, profile_check, scheduler, throttling
from slurm.cluster import limits as queue_limits
from slurm.profile import Profile
from slurm.submissions import snapshot
from slurm.submissions.submission import JobArray, Submission, note_job_ids
from sweeps.layout import LANES_OF_A_JOB


class SlurmBackend:
    """Runs packs as tasks of job arrays; `slurm.backend.Backend` describes the methods.

    submitit is imported only where a job is submitted or its script is shown.
    """

    on_this_machine = False
    has_job_ids = True

    def limits(self, profile: Profile) -> Limits:
        return scheduler.limits(profile.account)

    def free_slots(self, profile: Profile, limits: Limits) -> FreeSlots | None:
        return queue_limits.free_slots(profile, limits)

    def layout(self, profile: Profile, lanes: int | None, processes: int | None) -> tuple[int | None, int | None]:
        return lanes or profile.lanes or LANES_OF_A_JOB, (profile.throttle or 1) * profile.packs_per_job

    def submit(self, submission: Submission, earlier: Sequence[str]) -> SubmitResult:
        """Call sbatch for one array after another; the first refusal ends it, and the next call submits the rest."""
        from slurm.cluster import script

        refused = None
        try:
            for array in submission.arrays:
                if array.behind is not None:
                    array.after = [*array.after, *filter(None, [submission.arrays[array.behind].job])]
                try:
                    array.job = _sbatch(script.executor(submission, array), script.array_body(submission, array))
                except SchedulerError as error:
                    if array is submission.arrays[0]:
                        raise queue_limits.explained(error) from None
                    refused = queue_limits.explained(error)
                    break
                submission.write()
            without_report = self.submit_report_job(submission, earlier)
        except KeyboardInterrupt:
            with suppress(SchedulerError):  # the next `submit` or `resume` asks again
                queued = scheduler.queue().items()
                note_job_ids(submission, {name: next(iter(tasks.values())).job for name, tasks in queued})
            submission.write()
            return SubmitResult(submission, submission.accepted, interrupted=True)
        if isinstance(refused, SubmissionUnknownError):
            raise SubmissionUnknownError(f"{count(submission.accepted, 'pack')} of earlier arrays submitted; {refused}")
        return SubmitResult(submission, submission.accepted, str(refused or without_report))

    def submit_report_job(self, submission: Submission, earlier: Sequence[str]) -> str:
        from slurm.cluster import script

        if not submission.report_job:
            return ""
        after = [*earlier, *(array.job for array in submission.arrays if array.job)]
        runner = submission
        if submission.code.exists() and not snapshot.is_startable(submission.code):
            code = snapshot.save_snapshot(submission.sweep_folder / "code")
            runner = submission.model_copy(update={"code": code})  # the arrays keep the code they were submitted with
        try:
            job = script.executor(runner, submission.report_job, is_array=False, after=after)
            submission.report_job.job = _sbatch(job, script.report_body(submission))
        except SchedulerError as error:
            return f"the job that draws the report: {queue_limits.explained(error)}"
        finally:
            submission.write()
        return ""

    def queue(self, submissions: Sequence[Submission], unreadable: list[str] | None = None) -> Queue:
        names = {array.name for submission in submissions for array in submission.all_arrays}
        return {name: tasks for name, tasks in scheduler.queue().items() if name in names} if names else {}

    def is_queued(self, job: str) -> bool:
        return scheduler.is_queued(job)

    def final_states(self, jobs: Sequence[str]) -> dict[tuple[str, int], str]:
        return scheduler.final_states(jobs)

    def cancel(self, tasks: Set[QueuedJob], reports: Set[QueuedJob]) -> None:
        cancelling.cancel(tasks, reports)

    def release(self, tasks: Iterable[QueuedJob]) -> None:
        scheduler.release(tasks)

    def set_throttle(
        self, submissions: Sequence[Submission], queued: Mapping[str, Mapping[int, QueuedJob]], throttle: int
    ) -> tuple[int, int]:
        return throttling.change(submissions, queued, throttle)

    def job_log(self, submission: Submission, array: JobArray, index: int, started: bool) -> Path | None:
        return submission.folder / "logs" / f"{array.job}_{index}.log"

    def script(self, submission: Submission) -> str:
        from slurm.cluster import script

        if not submission.arrays:
            return ""
        first = submission.arrays[0]
        return script.executor(submission, first).text(script.array_body(submission, first))

    def check_profile(self, profile: Profile) -> list[Finding]:
        return profile_check.check_profile(profile)

    def run_check_job(
        self, profile: Profile, outputs: Path, timeout: float, on_wait: Callable[[str], None]
    ) -> list[Finding]:
        from slurm.cluster import check_job

        return check_job.run_check_job(profile, outputs, timeout, on_wait)


def _sbatch(request: Any, body: str) -> str:
    """Submit with sbatch; the id of the job, from the queue if sbatch does not give it.

    Raises:
        SchedulerError: if Slurm refuses.
        SubmissionUnknownError: if neither sbatch nor squeue says whether the job is in the queue.
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
        raise SubmissionUnknownError(
            f"it is not known whether {name} was submitted ({error}); if it was, scorer status and scorer submit "
            "find it by this name, and it is not submitted again"
        ) from None
