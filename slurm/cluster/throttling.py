"""Change the throttle of arrays that are in the queue."""

from collections.abc import Mapping, Sequence

from slurm.backend import QueuedJob
from slurm.cluster import scheduler
from slurm.submissions.submission import Submission, split_throttle


def change(sent: Sequence[Submission], queued: Mapping[str, Mapping[int, QueuedJob]], throttle: int) -> tuple[int, int]:
    """Let all queued arrays of `sent` together run at most `throttle` tasks; how many arrays, and tasks that run now.

    Arrays with running tasks come first. If there are more arrays than `throttle`, the others start after them.

    Raises:
        SchedulerError: if Slurm refuses.
    """
    live = [
        (submission, array, queued[array.name].values())
        for submission in sent
        for array in submission.arrays
        if array.name in queued
    ]
    live.sort(key=lambda entry: not any(task.state == "running" for task in entry[2]))
    jobs = [next(iter(tasks)).job for _, _, tasks in live]
    queued_ids = [task.job for tasks in queued.values() for task in tasks.values()]
    for (submission, array, tasks), job, (share, behind) in zip(
        live, jobs, split_throttle(throttle, len(live)), strict=True
    ):
        started = any(task.state == "running" for task in tasks)
        others = [number for number in submission.after if number not in queued_ids]  # of `--after`
        array.after = [*others, *([jobs[behind]] if behind is not None else [])]
        array.throttle = share
        changes = [f"ArrayTaskThrottle={share}"]
        if not started:
            changes.append(f"Dependency={'afterany:' + ':'.join(array.after) if array.after else ''}")
        scheduler.run_command("scontrol", "update", f"JobId={job}", *changes)
        submission.write()
    return len(live), sum(task.state == "running" for _, _, tasks in live for task in tasks)
