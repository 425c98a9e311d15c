"""Slurm's commands: asked seldom, in bulk, in formats that do not change; an answer that does not come is an error.

Nothing is concluded from silence: who asks decides what the files alone can tell.
"""

import os
import pwd
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from scorer_core.support.waiting import waiting
from sweeps.errors import shortened

PATIENCE_SECONDS = 20.0
MARK = "scorer|"  # begins the lines that count: a site may replace Slurm's commands by scripts that print text
QUEUE_FORMAT = MARK + "%F|%K|%T|%r|%N|%j"  # array job, index, state, reason, nodes, name (may contain anything)
QUEUE_ROW = re.compile(r"(\d+)\|([^|]*)\|([A-Z_]+)\|([^|]*)\|([^|]*)\|(.*)")
SHOWN_CHARACTERS = 200  # of an answer that is not understood
DEFAULT_MAX_ARRAY_SIZE = 1001  # Slurm's own, where it cannot be asked
# What a job inherits from the job it was submitted in sends it to the wrong array, CPUs or memory; not so these.
KEPT_OF_SLURM = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")


class SchedulerError(Exception):
    """Slurm refused, or did not answer; the message is one line."""


class NoAnswerError(SchedulerError):
    """A command was started and did not end in time; it may have done its work."""


class SubmissionUnknownError(SchedulerError):
    """sbatch was called, and its answer does not tell whether the job is in the queue."""


@dataclass(frozen=True)
class QueuedJob:
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
def without_slurm_env() -> Iterator[None]:
    """For as long as this lasts, the environment is without what belongs to a job we may be in."""
    inherited = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SUBMITIT_")
    taken = {k: os.environ.pop(k) for k in list(os.environ) if k.startswith(inherited) and k not in KEPT_OF_SLURM}
    try:
        yield
    finally:
        os.environ.update(taken)


def run_command(*command: str, patience: float = PATIENCE_SECONDS) -> str:
    """What `command` prints.

    Raises:
        SchedulerError: if it is not installed, fails, or takes longer than `patience` seconds.
    """
    done = run_process(*command, patience=patience)
    if done.returncode:
        raise SchedulerError(last_line(done.stderr) or f"{command[0]}: exit code {done.returncode}")
    return done.stdout


def run_process(*command: str, patience: float = PATIENCE_SECONDS) -> subprocess.CompletedProcess[str]:
    """`command` with its exit code, output and errors; bytes that are not UTF-8 (another locale's) are replaced.

    Raises:
        SchedulerError: if it cannot be started.
        NoAnswerError: if it takes longer than `patience` seconds.
    """
    try:
        with without_slurm_env(), waiting(command[0]):
            return subprocess.run(
                command, capture_output=True, encoding="utf-8", errors="replace", timeout=patience,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
    except FileNotFoundError:
        raise SchedulerError(f"{command[0]}: not found; is this a login node of a Slurm cluster?") from None
    except OSError as error:
        raise SchedulerError(f"{command[0]}: cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise NoAnswerError(f"{command[0]}: no answer in {patience:.0f} s") from None


def marked(command: str, answer: str) -> list[str]:
    """The lines of `answer` with MARK, from it on; the first one holds the titles of the columns.

    An empty queue has its titles, so an answer without them did not come from Slurm.

    Raises:
        SchedulerError: if no line has the mark.
    """
    lines = [line.split(MARK, 1)[1] for line in answer.splitlines() if MARK in line]
    if not lines:
        raise SchedulerError(not_understood(command, answer))
    return lines


def not_understood(command: str, answer: str) -> str:
    """What to say of an answer that is not understood: one line, and not too long."""
    return f"{command} answered '{shortened(' '.join(answer.split()), SHOWN_CHARACTERS)}'"


def last_line(complaint: str) -> str:
    """The last error in what a command of Slurm printed, without the command's name; else its last line, or nothing."""
    lines = [line for line in complaint.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\w+: )?(error|fatal): ", line)]
    return _without_prefix((errors or lines)[-1]) if lines else ""


def all_lines(complaint: str) -> str:
    """All that a command of Slurm printed when it refused, on one line; lines without a letter or digit are skipped."""
    lines = [_without_prefix(line).strip() for line in complaint.splitlines()]
    return " / ".join(line for line in lines if re.search(r"\w", line))


def _without_prefix(line: str) -> str:
    return re.sub(r"^((\w+: )?(error|fatal)|sbatch): ", "", line)


def pairs(line: str) -> dict[str, str]:
    """The words KEY=VALUE in a line of `scontrol --oneliner`."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def user_name() -> str:
    """The name of the user that this process belongs to; LOGNAME and USER may name another (su, sudo, containers)."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container without an entry for this user
        return str(os.getuid())


def limits(account: str | None = None) -> Limits:
    """How much may be submitted at a time, by `account` or by any of ours; the second call fails without accounting.

    A limit of a QOS is not looked up: sbatch refuses what is beyond it, and the rest is for the next submission.

    Raises:
        SchedulerError: if Slurm does not answer.
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", run_command("scontrol", "show", "config"), re.MULTILINE)
    size = int(found.group(1)) if found else DEFAULT_MAX_ARRAY_SIZE
    question = ("show", "assoc", f"user={user_name()}", "format=Account,MaxSubmitJobs")
    try:
        answer = run_command("sacctmgr", "-nP", *question)
    except SchedulerError:
        return Limits(size, None)
    rows = [line.split("|") for line in answer.splitlines()]
    rows = [row for row in rows if len(row) == 2]
    numbers = [int(most) for name, most in rows if most.isdecimal() and account in (None, name)]
    return Limits(size, min(numbers, default=None))


def queue() -> dict[str, dict[int, QueuedJob]]:
    """Every job of this user, in one call: by name, then by index (0 where it is no array).

    Raises:
        SchedulerError: if Slurm does not answer.
    """
    jobs: dict[str, dict[int, QueuedJob]] = {}
    for job, index, state, reason, where, name in _queue_rows():
        known = "running" if state in ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED") else "pending"
        place = int(index) if index.isdecimal() else 0
        told = reason if reason != "None" else state.capitalize()
        jobs.setdefault(name, {})[place] = QueuedJob(known, told, where, job, place)
    return jobs


def _queue_rows() -> list[tuple[str, ...]]:
    """The fields of QUEUE_FORMAT for each job of this user.

    Raises:
        SchedulerError: if Slurm does not answer, or answers about nobody.
    """
    command = ("squeue", "--array", f"--user={os.getuid()}", f"--format={QUEUE_FORMAT}")
    done = run_process(*command)
    if done.returncode or "invalid user" in done.stderr.lower():  # an unknown user is no error to some versions
        raise SchedulerError(last_line(done.stderr) or f"squeue: exit code {done.returncode}")
    lines = marked("squeue", done.stdout)
    rows = [row.groups() for row in map(QUEUE_ROW.fullmatch, lines) if row]
    if len(lines) > 1 and not rows:
        raise SchedulerError(not_understood("squeue", done.stdout))
    return rows


def final_states(jobs: Sequence[str]) -> dict[tuple[str, int], str]:
    """How tasks of array `jobs` ended, as accounting has it, in one call; empty where there is none."""
    try:
        answer = run_command("sacct", "-nPX", "-j", ",".join(jobs), "-o", "JobID,State") if jobs else ""
    except SchedulerError:
        return {}
    found = {}
    for line in answer.splitlines():
        match = re.fullmatch(r"(\d+)(?:_(\d+))?\|([A-Z_]+)\b.*", line)  # CANCELLED by 1000
        if match and match.group(3) not in ("PENDING", "RUNNING", "COMPLETED"):
            found[match.group(1), int(match.group(2) or 0)] = match.group(3).lower().replace("_", " ")
    return found


def cancel(tasks: Iterable[QueuedJob]) -> None:
    """Cancel these tasks of arrays.

    Raises:
        SchedulerError: if Slurm does not answer.
    """
    names = _names(tasks)
    if names:
        run_command("scancel", "--quiet", *names)


def release(tasks: Iterable[QueuedJob]) -> None:
    """Let these tasks of arrays, which are held, wait for their turn again.

    Raises:
        SchedulerError: if Slurm does not let us.
    """
    names = _names(tasks)
    if names:
        run_command("scontrol", "release", ",".join(names))


def _names(tasks: Iterable[QueuedJob]) -> list[str]:
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
