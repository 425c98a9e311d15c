"""What the verbs on jobs share: which folder is meant, questions, Slurm's refusals, and what is waited for."""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from cli.console import FAILED, USAGE, err, exit_with_error
from scorer_core.support import waiting
from scorer_core.support.commands import command, shown_path
from scorer_core.support.text import folded
from slurm.backend import Backend, Queue, SchedulerError, backend_of, queue_of
from slurm.submissions.submission import Submission, submissions
from sweeps.errors import DefinitionError
from sweeps.folders import changes, sweep_folder

T = TypeVar("T")

Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]


def _print_waiting(line: str) -> None:
    print(line, file=sys.__stderr__, flush=True)


waiting.hook = _print_waiting


def submitted_folder(sweep: str, outputs: Path) -> Path:
    """The folder of a sweep that was submitted; by name, or by the definition that names it."""
    folder = sweep_folder(sweep, outputs)
    if not (folder / "sweep.yaml").exists():
        again = command("submit", sweep, "--profile", "NAME", outputs=outputs)
        exit_with_error(f"{folder}: nothing was submitted here; to submit it: {again}", FAILED)
    for note in notes_on_changes(sweep, folder):
        err.print(note)
    return folder.resolve()


def notes_on_changes(sweep: str, folder: Path, overrides: Sequence[str] = ()) -> list[str]:
    """A note if the definition `sweep` differs from the one frozen in `folder`, which the command uses."""
    differing = changes(sweep, folder, overrides)
    used = f"note: {sweep} differs from {shown_path(folder / 'sweep.yaml')}, which this command uses, in: "
    return [f"{used}{folded(differing)}. To train the runs of {sweep}: scorer run {sweep}"] if differing else []


def search_folder(name: str, outputs: Path) -> Path | None:
    """The folder of the search called `name`, or None if there is no such search."""
    folder = outputs / name
    return folder.resolve() if (folder / "search.yaml").exists() else None


def slurm_or_exit(call: Callable[[], T]) -> T:
    """The answer of `call`; Slurm's refusal, or its silence, is one line."""
    try:
        return call()
    except SchedulerError as error:
        exit_with_error(f"Slurm: {error}", FAILED)


def confirm(question: str, yes: bool) -> None:
    """Go on only if the user agrees; without a terminal nobody can answer, so `--yes` is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        exit_with_error(f"{question} Add -y to confirm: there is no terminal to answer on. Nothing was done.", USAGE)
    if not typer.confirm(question):
        exit_with_error("Nothing was done.", FAILED)


def in_queue(sent: Sequence[Submission]) -> Queue:
    """The jobs that Slurm has of these submissions, report jobs included: by name, then by index.

    Raises:
        SchedulerError: if Slurm does not answer.
    """
    return queue_of(submission for submission in sent if backend_of(submission.profile).has_job_ids)


def jobs_to_wait_for(name: str, outputs: Path, backend: Backend) -> list[str]:
    """The jobs that `--after NAME` means: a job of Slurm, or all jobs of a sweep that are in the queue.

    Raises:
        DefinitionError: if there is none.
        SchedulerError: if Slurm does not answer.
    """
    if re.fullmatch(r"\d+(_\d+)?", name):
        if not backend.is_queued(name):
            raise DefinitionError(f"--after {name}: Slurm has no job {name} in the queue; give another, or no --after")
        return [name]
    found = in_queue(submissions(search_folder(name, outputs) or submitted_folder(name, outputs)))
    if not found:
        raise DefinitionError(f"--after {name}: no job of {name} is in the queue; submit without --after")
    return sorted({task.job for tasks in found.values() for task in tasks.values()}, key=int)
