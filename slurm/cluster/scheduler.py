"""Slurm's commands. They are called rarely, for many jobs at once, in formats that do not change.

If a command does not answer, that is an error. The caller decides what the files alone can say.
"""

import os
import pwd
import re
import subprocess
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from scorer_core.support.waiting import waiting
from slurm.backend import DEFAULT_MAX_ARRAY_SIZE, Limits, Queue, QueuedJob, SchedulerError
from sweeps.errors import shortened

PATIENCE_SECONDS = 20.0
MARK = "scorer|"  # starts each line of data: a site may replace Slurm's commands by scripts that print other text
QUEUE_FORMAT = MARK + "%F|%K|%T|%r|%N|%j"  # array job, index, state, reason, nodes, name (may contain anything)
QUEUE_ROW = re.compile(r"(\d+)\|([^|]*)\|([A-Z_]+)\|([^|]*)\|([^|]*)\|(.*)")
SHOWN_CHARACTERS = 200  # of an answer that cannot be parsed
# Variables of a surrounding job would give a new job the wrong array, CPUs or memory. These are safe to keep.
KEPT_OF_SLURM = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")


class NoAnswerError(SchedulerError):
    """A command did not end in time. It may have had its effect."""


@contextmanager
def without_slurm_env() -> Iterator[None]:
    """Remove the variables of a surrounding Slurm job from the environment, within this context."""
    inherited = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SUBMITIT_")
    taken = {k: os.environ.pop(k) for k in list(os.environ) if k.startswith(inherited) and k not in KEPT_OF_SLURM}
    try:
        yield
    finally:
        os.environ.update(taken)


def run_command(*command: str, patience: float = PATIENCE_SECONDS) -> str:
    """Run `command` and return what it prints.

    Raises:
        SchedulerError: if it is not installed, fails, or takes longer than `patience` seconds.
    """
    done = run_process(*command, patience=patience)
    if done.returncode:
        raise SchedulerError(last_line(done.stderr) or f"{command[0]}: exit code {done.returncode}")
    return done.stdout


def run_process(
    *command: str, patience: float = PATIENCE_SECONDS, without: Collection[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run `command` and return its exit code, output and errors; bytes that are not UTF-8 are replaced.

    It does not get the environment variables named in `without`.

    Raises:
        SchedulerError: if it cannot be started.
        NoAnswerError: if it takes longer than `patience` seconds.
    """
    try:
        with without_slurm_env(), waiting(command[0]):
            return subprocess.run(
                command, capture_output=True, encoding="utf-8", errors="replace", timeout=patience,
                stdin=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if name not in without},
            )  # fmt: skip
    except FileNotFoundError:
        raise SchedulerError(f"{command[0]}: not found; is this a login node of a Slurm cluster?") from None
    except OSError as error:
        raise SchedulerError(f"{command[0]}: cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise NoAnswerError(f"{command[0]}: no answer in {patience:.0f} s") from None


def marked(command: str, answer: str) -> list[str]:
    """The lines of `answer` with MARK, without the text up to it; the first one has the column titles.

    An empty queue has titles too, so an answer without them is not from Slurm.

    Raises:
        SchedulerError: if no line has the mark.
    """
    lines = [line.split(MARK, 1)[1] for line in answer.splitlines() if MARK in line]
    if not lines:
        raise SchedulerError(not_understood(command, answer))
    return lines


def not_understood(command: str, answer: str) -> str:
    """The message for an answer that cannot be parsed: one line of limited length."""
    return f"{command} answered '{shortened(' '.join(answer.split()), SHOWN_CHARACTERS)}'"


def last_line(complaint: str) -> str:
    """The last error that a command of Slurm printed, without the command's name; otherwise its last line, if any."""
    lines = [line for line in complaint.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\w+: )?(error|fatal): ", line)]
    return _without_prefix((errors or lines)[-1]) if lines else ""


def all_lines(complaint: str) -> str:
    """The whole error message of a command of Slurm on one line, without lines that have no letter or digit."""
    lines = [_without_prefix(line).strip() for line in complaint.splitlines()]
    return " / ".join(line for line in lines if re.search(r"\w", line))


def _without_prefix(line: str) -> str:
    return re.sub(r"^((\w+: )?(error|fatal)|sbatch): ", "", line)


def pairs(line: str) -> dict[str, str]:
    """The words KEY=VALUE in a line of `scontrol --oneliner`."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def user_name() -> str:
    """The user of this process. LOGNAME and USER may name another one (su, sudo, containers)."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container without an entry for this user
        return str(os.getuid())


def limits(account: str | None = None) -> Limits:
    """The limits on one submission under `account` (default: the smallest limit of all accounts of the user).

    Without accounting, only MaxArraySize is known. Limits of QOS are in `slurm.cluster.limits`.

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


def queue() -> Queue:
    """All jobs of this user, from one call of squeue: by name, then by index (0 if the job is not an array).

    Raises:
        SchedulerError: if Slurm does not answer.
    """
    jobs: Queue = {}
    for job, index, state, reason, where, name in _queue_rows():
        known = "running" if state in ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED") else "pending"
        place = int(index) if index.isdecimal() else 0
        why = reason if reason != "None" else state.capitalize()
        jobs.setdefault(name, {})[place] = QueuedJob(known, why, where, job, place)
    return jobs


def is_queued(job: str) -> bool:
    """Is there a job (or a task, `N_i`) with this id in the queue, of any user?

    Raises:
        SchedulerError: if Slurm does not answer.
    """
    try:
        answer = run_command("squeue", "--noheader", "--jobs", job, "--format", MARK + "%A")
    except SchedulerError as error:
        if "Invalid job id" not in str(error):
            raise
        return False
    return MARK in answer


def _queue_rows() -> list[tuple[str, ...]]:
    """The fields of QUEUE_FORMAT for each job of this user.

    Raises:
        SchedulerError: if Slurm does not answer, or does not know the user.
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
    """How tasks of the arrays `jobs` ended, by id and index, from one call of sacct; empty without accounting."""
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
    """Release held tasks of arrays, so that they can start.

    Raises:
        SchedulerError: if Slurm refuses.
    """
    names = _names(tasks)
    if names:
        run_command("scontrol", "release", ",".join(names))


def _names(tasks: Iterable[QueuedJob]) -> list[str]:
    """The names of these tasks for Slurm's commands, one name per array."""
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
