"""What the verbs on jobs share: which folder is meant, and Slurm's refusals in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from scorer_core.commands import command
from slurm.scheduler import SchedulerError
from sweeps.folders import sweep_folder
from sweeps.terminal import FAILED, stop

T = TypeVar("T")


def submitted(sweep: str, outputs: Path) -> Path:
    """The folder of a sweep that was submitted; by name, or by the definition that names it."""
    folder = sweep_folder(sweep, outputs)
    if not (folder / "sweep.yaml").exists():
        again = command("submit", sweep, "--profile", "NAME", outputs=outputs)
        stop(f"{folder}: nothing was submitted here; to submit it: {again}", FAILED)
    return folder.resolve()


def answered(call: Callable[[], T]) -> T:
    """The answer of `call`; Slurm's refusal, or its silence, is one line."""
    try:
        return call()
    except SchedulerError as error:
        stop(f"Slurm: {error}", FAILED)
