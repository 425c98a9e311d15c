"""Slurm's commands: asked seldom, in bulk, in formats that do not change; an answer that does not come is an error.

Nothing is concluded from silence: who asks decides what the files alone can tell.
"""

import getpass
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from slurm.waiting import waiting

PATIENCE_SECONDS = 20.0
QUEUE_FORMAT = "%F|%K|%T|%r|%N|%j"  # array job, index, state, reason, nodes, name: a name may hold anything, so last
DEFAULT_MAX_ARRAY_SIZE = 1001  # Slurm's own, where it cannot be asked
# What a job inherits from the job it was submitted in sends it to the wrong array, CPUs or memory; not so these.
KEPT_OF_SLURM = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")


class SchedulerError(Exception):
    """Slurm refused, or did not answer; the message is one line."""


@dataclass(frozen=True)
class Queued:
    """A job that the scheduler has: `running`, or `pending` for a reason."""

    state: str
    reason: str = ""
    where: str = ""
    job: str = ""  # Slurm's number of the array
    index: int = 0

    @property
    def held(self) -> bool:
        """Does it wait for somebody to release it? Slurm holds what a node failed to launch."""
        return "held" in self.reason.lower() and "admin" not in self.reason.lower()


@dataclass(frozen=True)
class Limits:
    max_array_size: int  # one more than the largest index
    max_submit: int | None  # jobs of this user queued at a time; None: no limit is known


@contextmanager
def scrubbed() -> Iterator[None]:
    """For as long as this lasts, the environment is without what belongs to a job we may be in."""
    inherited = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SUBMITIT_")
    taken = {k: os.environ.pop(k) for k in list(os.environ) if k.startswith(inherited) and k not in KEPT_OF_SLURM}
    try:
        yield
    finally:
        os.environ.update(taken)


def ask(*command: str, patience: float = PATIENCE_SECONDS) -> str:
    """What `command` prints.

    Raises:
        SchedulerError: if it is not installed, fails, or takes longer than `patience` seconds.
    """
    try:
        with scrubbed(), waiting(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=patience)
    except FileNotFoundError:
        raise SchedulerError(f"{command[0]}: not found; is this a login node of a Slurm cluster?") from None
    except subprocess.TimeoutExpired:
        raise SchedulerError(f"{command[0]}: no answer in {patience:.0f} s") from None
    if done.returncode:
        raise SchedulerError(last_line(done.stderr) or f"{command[0]}: exit code {done.returncode}")
    return done.stdout


def last_line(complaint: str) -> str:
    """What a command of Slurm's complained of, without its own name; empty if it said nothing."""
    lines = [line for line in complaint.splitlines() if line.strip()]
    return re.sub(r"^(\w+: )?(error|fatal): ", "", lines[-1]) if lines else ""


def limits(account: str | None = None) -> Limits:
    """How much may be submitted at a time, by `account` or by any of ours; the second call fails without accounting.

    A limit of a QOS is not looked up: sbatch refuses what is beyond it, and the rest is for the next submission.

    Raises:
        SchedulerError: if Slurm does not answer.
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    size = int(found.group(1)) if found else DEFAULT_MAX_ARRAY_SIZE
    question = ("show", "assoc", f"user={getpass.getuser()}", "format=Account,MaxSubmitJobs")
    try:
        answer = ask("sacctmgr", "-nP", *question)
    except SchedulerError:
        return Limits(size, None)
    rows = [line.split("|") for line in answer.splitlines()]
    numbers = [int(most) for name, most in rows if most.isdigit() and account in (None, name)]
    return Limits(size, min(numbers, default=None))


def queue() -> dict[str, dict[int, Queued]]:
    """Every job of this user, in one call: by name, then by index (0 where it is no array).

    Raises:
        SchedulerError: if Slurm does not answer.
    """
    jobs: dict[str, dict[int, Queued]] = {}
    answer = ask("squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", QUEUE_FORMAT)
    for line in answer.splitlines():
        job, index, state, reason, where, name = line.split("|", 5)
        known = "running" if state in ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED") else "pending"
        place = int(index) if index.isdigit() else 0
        told = reason if reason != "None" else state.capitalize()
        jobs.setdefault(name, {})[place] = Queued(known, told, where, job, place)
    return jobs


def queued() -> int:
    """How many jobs this user has, each task of an array counted.

    Raises:
        SchedulerError: if Slurm does not answer.
    """
    return len(ask("squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i").split())


def ends(jobs: Sequence[str]) -> dict[tuple[str, int], str]:
    """How tasks of array `jobs` ended, as accounting has it, in one call; empty where there is none."""
    try:
        answer = ask("sacct", "-nPX", "-j", ",".join(jobs), "-o", "JobID,State") if jobs else ""
    except SchedulerError:
        return {}
    found = {}
    for line in answer.splitlines():
        task, state = line.split("|")
        match = re.fullmatch(r"(\d+)(?:_(\d+))?", task)
        if match and state.split()[0] not in ("PENDING", "RUNNING", "COMPLETED"):
            found[match.group(1), int(match.group(2) or 0)] = state.split()[0].lower().replace("_", " ")
    return found


def cancel(tasks: Iterable[Queued]) -> None:
    """Cancel these tasks of arrays.

    Raises:
        SchedulerError: if Slurm does not answer.
    """
    names = _names(tasks)
    if names:
        ask("scancel", "--quiet", *names)


def release(tasks: Iterable[Queued]) -> None:
    """Let these tasks of arrays, which are held, wait for their turn again.

    Raises:
        SchedulerError: if Slurm does not let us.
    """
    names = _names(tasks)
    if names:
        ask("scontrol", "release", ",".join(names))


def _names(tasks: Iterable[Queued]) -> list[str]:
    """What Slurm's commands call these tasks, those of one array together."""
    indices: dict[str, list[int]] = {}
    for task in set(tasks):
        indices.setdefault(task.job, []).append(task.index)
    return [f"{job}_[{_ranges(some)}]" for job, some in indices.items()]


def _ranges(indices: Sequence[int]) -> str:
    """0,1,2,5 as `0-2,5`."""
    spans: list[list[int]] = []
    for index in sorted(indices):
        if spans and spans[-1][1] == index - 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)
