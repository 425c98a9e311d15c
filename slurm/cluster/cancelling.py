"""Cancel jobs, and the report jobs that have nothing left to report on."""

from collections.abc import Mapping, Sequence, Set

from slurm.backend import QueuedJob
from slurm.cluster import scheduler
from slurm.submissions.submission import Submission

NEVER = "DependencyNeverSatisfied"


def report_jobs(
    sent: Sequence[Submission], queued: Mapping[str, Mapping[int, QueuedJob]], cancelled: Set[QueuedJob]
) -> set[QueuedJob]:
    """The queued report jobs to cancel together with the jobs `cancelled`.

    These are report jobs among `cancelled`, those whose dependency can never be satisfied, and those of a submission
    whose last jobs are cancelled.
    """
    found = set()
    for submission in sent:
        last = queued.get(submission.report_job.name) if submission.report_job else None
        if not last:
            continue
        tasks = {task for request in submission.arrays for task in queued.get(request.name, {}).values()}
        for job in last.values():
            if job in cancelled or job.reason == NEVER or (tasks and tasks <= cancelled):
                found.add(job)
    return found


def cancel(tasks: Set[QueuedJob], reports: Set[QueuedJob]) -> None:
    """Cancel tasks of arrays, and report jobs, which are not arrays.

    Raises:
        SchedulerError: if Slurm does not answer.
    """
    scheduler.cancel(tasks)
    if reports:
        scheduler.run_command("scancel", "--quiet", *sorted({job.job for job in reports}))
