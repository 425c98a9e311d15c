"""Why a job was lost: the line of its log that explains it, and what to fix before its runs are resubmitted.

Slurm writes such lines into the log of a job. bash does so if a setup line, a folder or the interpreter is missing.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from scorer_core.support.secrets import mask

TAIL_BYTES = 4096  # of a log
MOST_LOGS = 200  # read by one `status`: each is a file on a shared file system
SHOWN_CHARACTERS = 300
NO_RECORD = "its job ended without recording a status"

REASONS = (
    (r"setup line \d+ failed", "Fix `setup` in the profile, then: {retry_changed}"),
    (
        r"exceeded (job |step )?memory limit|oom.?kill|out of memory|oom killed",
        "Set a larger `memory`, or fewer `lanes`, in the profile, then: {retry_changed}",
    ),
    (
        r"\b(cd|chdir|packs\.txt)\b.*: (no such file or directory|permission denied)|stale file handle",
        "A folder of the sweep was missing on a node. Check that all nodes share it, then: {resume}",
    ),
    (
        r"python[\w.-]*.*: (no such file or directory|command not found|permission denied|cannot execute)",
        "The job did not find its Python. Check that it exists on the nodes, then: {retry}",
    ),
    (
        r"due to time limit",
        "The time limit ended a job before its checkpoint. Set a larger `signal_seconds` in the profile, then: "
        "{retry_changed}",
    ),
    (r"due to (preemption|node fail\w*|job requeue)", ""),
    (r"no space left on device|disk quota exceeded", "The disk is full. Free some space, then: {resume}"),
    (r"this job runs the code in", "Fix `setup` in the profile, then: {retry_changed}"),
)


@dataclass(frozen=True)
class Loss:
    line: str
    advice: str = ""  # with {resume}, {retry}, {retry_changed} for the commands; empty if nothing needs to change


def explain(log: Path, last_line: bool = False) -> Loss | None:
    """The last line in `log` that gives a reason; with `last_line`, the last line if no line gives a reason."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        if loss := reason(_shown(line)):
            return loss
    text = [line for line in lines if line.strip()]
    return Loss(_shown(text[-1])) if text and last_line else None


def reason(line: str) -> Loss | None:
    """The reason for a loss in `line`, or None."""
    for pattern, advice in REASONS:
        if re.search(pattern, line, re.IGNORECASE):
            return Loss(line, advice)
    return None


def _shown(line: str) -> str:
    """`line` without Slurm's prefix and the path of the job script, shortened."""
    line = re.sub(r"^(slurmstepd|slurmd|srun)(-\S+)?: (error: )?", "", line.strip()).strip("* ")
    line = re.sub(r"^\S*/slurm_script: (line \d+: )?", "", line)
    return mask(line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}...")
