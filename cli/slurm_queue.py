"""Calls of Slurm that several commands make: the jobs in the queue, and the jobs that `--after` names."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cli.console import FAILED, exit_with_error
from cli.sweep_argument import search_folder, submitted_folder
from slurm.cluster import scheduler
from slurm.cluster.scheduler import QueuedJob, SchedulerError
from slurm.submissions.submission import Submission, submissions
from sweeps.definition import DefinitionError

T = TypeVar("T")


def slurm_or_exit(call: Callable[[], T]) -> T:
    """The result of `call`. If Slurm rejects it or does not respond, the command ends with one line."""
    try:
        return call()
    except SchedulerError as error:
        exit_with_error(f"Slurm: {error}", FAILED)


def in_queue(sent: Sequence[Submission]) -> dict[str, dict[int, QueuedJob]]:
    """The jobs of these submissions in Slurm's queue, report jobs included: by array name, then by index.

    Raises:
        SchedulerError: if Slurm does not respond.
    """
    sent = [submission for submission in sent if submission.profile.scheduler == "slurm"]
    names = {request.name for submission in sent for request in submission.all_requests}
    return {name: tasks for name, tasks in scheduler.queue().items() if name in names} if names else {}


def jobs_to_wait_for(name: str, outputs: Path) -> list[str]:
    """The ids of the jobs that `--after NAME` means: a Slurm job, or all queued jobs of a sweep or a search.

    Raises:
        DefinitionError: if there is no such job in the queue.
        SchedulerError: if Slurm does not respond.
    """
    if re.fullmatch(r"\d+(_\d+)?", name):
        try:
            answer = scheduler.run_command("squeue", "--noheader", "--jobs", name, "--format", scheduler.MARK + "%A")
        except SchedulerError as error:
            if "Invalid job id" not in str(error):
                raise
            answer = ""
        if scheduler.MARK not in answer:
            raise DefinitionError(
                f"--after {name}: Slurm has no job {name} in the queue; give another job, or remove --after"
            )
        return [name]
    found = in_queue(submissions(search_folder(name, outputs) or submitted_folder(name, outputs)))
    if not found:
        raise DefinitionError(f"--after {name}: no job of {name} is in the queue; remove --after")
    return sorted({task.job for tasks in found.values() for task in tasks.values()}, key=int)
