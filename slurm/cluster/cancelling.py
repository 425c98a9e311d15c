"""Which report jobs a cancel leaves without a purpose, and the cancel itself."""

from collections.abc import Mapping, Sequence, Set

from slurm.backend import QueuedJob
from slurm.cluster import scheduler
from slurm.submissions.submission import Submission

NEVER = "DependencyNeverSatisfied"


def report_jobs(
    sent: Sequence[Submission], queued: Mapping[str, Mapping[int, QueuedJob]], cancelled: Set[QueuedJob]
) -> set[QueuedJob]:
    """The report jobs in the queue to cancel together with `cancelled`.

    These are the ones that are cancelled by themselves, whose dependency can never be satisfied, and those of a
    submission that loses its last jobs.
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
    """Cancel tasks of arrays, and report jobs, which are no arrays.

    Raises:
        SchedulerError: if Slurm does not answer.
    """
    scheduler.cancel(tasks)
    if reports:
        scheduler.run_command("scancel", "--quiet", *sorted({job.job for job in reports}))
