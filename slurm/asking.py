"""What the verbs on jobs share: which folder is meant, and Slurm's refusals in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from slurm.scheduler import SchedulerError
from sweeps import definition
from sweeps.terminal import FAILED, err, stop

T = TypeVar("T")


def submitted(sweep: str, outputs: Path) -> Path:
    """The folder of a sweep that was submitted; by name, or by the definition that names it."""
    folder = outputs / sweep
    raw = None
    if not (folder / "sweep.yaml").exists() and (Path(sweep).suffix or sweep in definition.shipped()):
        raw = definition.read(sweep)[0]  # of thousands of runs, only that
        folder = outputs / str(raw.get("name", ""))
    if not (folder / "sweep.yaml").exists():
        stop(f"{folder}: nothing was submitted here; scorer submit {sweep} --profile NAME", FAILED)
    if raw and (changed := definition.changed(raw, sweep, folder)):
        err.print(changed, markup=False, highlight=False, soft_wrap=True)
    return folder.resolve()


def answered(call: Callable[[], T]) -> T:
    """The answer of `call`; Slurm's refusal, or its silence, is one line."""
    try:
        return call()
    except SchedulerError as error:
        stop(f"Slurm: {error}", FAILED)
