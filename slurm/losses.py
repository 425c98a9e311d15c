"""Why a job was lost: the line of its own log that explains it, and what to do before its runs are submitted again.

Slurm writes these lines into a job's log; so does bash where a setup line, a folder or the interpreter is missing.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 4096  # of a log
MOST_LOGS = 200  # read for one status: each one is a file on a shared file system
SHOWN_CHARACTERS = 300
NO_RECORD = "its job ended without recording a status"

REASONS = (
    (r"setup line \d+ failed", "Fix `setup` in the profile, then: scorer retry {sweep} --profile {profile}"),
    (
        r"exceeded (job |step )?memory limit|oom.?kill|out of memory|oom killed",
        "Set a larger `memory`, or fewer `lanes`, in the profile, then: scorer retry {sweep} --profile {profile}",
    ),
    (
        r"python[\w.-]*.*: (no such file or directory|command not found|permission denied|cannot execute)",
        "The job did not find its Python. Check that the nodes have it, then: scorer retry {sweep}",
    ),
    (
        r"(cd|chdir|packs\.txt).*: (no such file or directory|permission denied)|stale file handle",
        "A node did not have a folder of the sweep. Check that the nodes have it, then: scorer resume {sweep}",
    ),
    (
        r"due to time limit",
        "The time limit ended a job before it had committed. Set a larger `signal_seconds` in the profile, then: "
        "scorer retry {sweep} --profile {profile}",
    ),
    (r"due to (preemption|node fail\w*|job requeue)", ""),
    (r"no space left on device|disk quota exceeded", "The disk is full. Make room, then: scorer resume {sweep}"),
    (r"this job runs the code in", "Fix `setup` in the profile, then: scorer retry {sweep} --profile {profile}"),
)


@dataclass(frozen=True)
class Loss:
    line: str
    advice: str = ""  # with {sweep} and {profile} for their names; empty if nothing needs to change


def explain(log: Path, last_line: bool = False) -> Loss | None:
    """The last line at the end of `log` that gives a reason; with `last_line`, otherwise simply the last one."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        for pattern, advice in REASONS:
            if re.search(pattern, line, re.IGNORECASE):
                return Loss(_shown(line), advice)
    said = [line for line in lines if line.strip()]
    return Loss(_shown(said[-1])) if said and last_line else None


def _shown(line: str) -> str:
    """Without Slurm's prefix and the job script's path, and not too long."""
    line = re.sub(r"^(slurmstepd|slurmd|srun)(-\S+)?: (error: )?", "", line.strip()).strip("* ")
    line = re.sub(r"^\S*/slurm_script: (line \d+: )?", "", line)
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."
