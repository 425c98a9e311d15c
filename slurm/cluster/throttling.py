"""Change the throttle of arrays that are in the queue."""

from collections.abc import Mapping, Sequence

from slurm.backend import QueuedJob
from slurm.cluster import scheduler
from slurm.submissions.submission import Submission, split_throttle


def change(sent: Sequence[Submission], queued: Mapping[str, Mapping[int, QueuedJob]], throttle: int) -> tuple[int, int]:
    """Let all arrays of `sent` in the queue together run at most `throttle` tasks; the arrays, and tasks that run now.

    Arrays with running tasks come first. If there are more arrays than `throttle`, the others start after them.

    Raises:
        SchedulerError: if Slurm does not let us.
    """
    live = [
        (submission, request, queued[request.name].values())
        for submission in sent
        for request in submission.arrays
        if request.name in queued
    ]
    live.sort(key=lambda entry: not any(task.state == "running" for task in entry[2]))
    jobs = [next(iter(tasks)).job for _, _, tasks in live]
    waits = [task.job for tasks in queued.values() for task in tasks.values()]
    for (submission, request, tasks), job, (share, behind) in zip(
        live, jobs, split_throttle(throttle, len(live)), strict=True
    ):
        started = any(task.state == "running" for task in tasks)
        others = [number for number in submission.after if number not in waits]  # of `--after`
        request.after = [*others, *([jobs[behind]] if behind is not None else [])]
        request.throttle = share
        changes = [f"ArrayTaskThrottle={share}"]
        if not started:
            changes.append(f"Dependency={'afterany:' + ':'.join(request.after) if request.after else ''}")
        scheduler.run_command("scontrol", "update", f"JobId={job}", *changes)
        submission.write()
    return len(live), sum(task.state == "running" for _, _, tasks in live for task in tasks)
