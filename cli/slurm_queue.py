"""Calls of Slurm that several commands make: the jobs in the queue, and the jobs that `--after` names."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cli.console import FAILED, exit_with_error
from cli.sweep_argument import search_folder, submitted_folder
from slurm.backend import Backend, Queue, SchedulerError, backend_of, queue_of
from slurm.submissions.submission import Submission, submissions
from sweeps.errors import DefinitionError

T = TypeVar("T")


def slurm_or_exit(call: Callable[[], T]) -> T:
    """The result of `call`. If Slurm rejects it or does not respond, the command ends with one line."""
    try:
        return call()
    except SchedulerError as error:
        exit_with_error(f"Slurm: {error}", FAILED)


def in_queue(sent: Sequence[Submission]) -> Queue:
    """The jobs of these submissions in Slurm's queue, report jobs included: by array name, then by index.

    Raises:
        SchedulerError: if Slurm does not respond.
    """
    return queue_of(submission for submission in sent if backend_of(submission.profile).has_job_ids)


def jobs_to_wait_for(name: str, outputs: Path, backend: Backend) -> list[str]:
    """The ids of the jobs that `--after NAME` means: a Slurm job, or all queued jobs of a sweep or a search.

    Raises:
        DefinitionError: if there is no such job in the queue.
        SchedulerError: if Slurm does not respond.
    """
    if re.fullmatch(r"\d+(_\d+)?", name):
        if not backend.is_queued(name):
            raise DefinitionError(
                f"--after {name}: Slurm has no job {name} in the queue; give another job, or remove --after"
            )
        return [name]
    found = in_queue(submissions(search_folder(name, outputs) or submitted_folder(name, outputs)))
    if not found:
        raise DefinitionError(f"--after {name}: no job of {name} is in the queue; remove --after")
    return sorted({task.job for tasks in found.values() for task in tasks.values()}, key=int)
