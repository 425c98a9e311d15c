"""The memory and time that jobs used, compared with what they requested, and a proposal for the next profile."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from scorer_core.support.errors import RecordError
from slurm.backend import SchedulerError
from slurm.cluster.scheduler import run_command
from slurm.profile import minutes
from slurm.status import PackStatus, SweepStatus

MEMORY_MARGIN, TIME_MARGIN = 1.25, 1.25  # a proposal is the largest used value times this
FIELDS = "JobID,State,ElapsedRaw,Timelimit,ReqMem,MaxRSS,NNodes,NCPUS"


@dataclass
class Used:
    """What the jobs of one pack used: wall seconds summed over attempts, and the largest memory of an attempt.

    Of a job that trains several packs at once, each has the wall seconds and an equal part of the memory.
    """

    seconds: float = 0.0
    limit_seconds: float | None = None
    megabytes: float | None = None
    asked_megabytes: float | None = None
    out_of_memory: bool = False


@dataclass(frozen=True)
class Usage:
    """What the packs used; `source` says where the numbers come from, `complaint` why accounting did not answer."""

    packs: dict[str, Used]
    source: str
    complaint: str = ""


def usage(found: SweepStatus) -> Usage:
    """What each started pack of `found` used: from accounting, or from its files (wall time only)."""
    places = {
        (array.job, index): (packs, submission.profile.packs_per_job)
        for submission in found.submissions
        if submission.packs
        for array, index, packs in submission.tasks()
        if array.job
    }
    jobs = sorted({job for job, _ in places})
    if not jobs:
        return Usage(from_files(found.packs.values()), "the packs' files")
    try:
        # -D: also the attempts before a requeue.
        measured = parse(run_command("sacct", "-nPD", "--units=M", "-j", ",".join(jobs), "-o", FIELDS))
    except SchedulerError as error:
        return Usage(from_files(found.packs.values()), "the packs' files", str(error))
    packs: dict[str, Used] = {}
    for task, used in measured.items():
        names, most = places.get(task, ([], 1))
        used.megabytes = used.megabytes and used.megabytes / max(1, min(most, len(names)))
        used.asked_megabytes = used.asked_megabytes and used.asked_megabytes / most
        for name in names:
            packs[name] = _together(packs[name], used) if name in packs else used
    return Usage(packs, "accounting (sacct)")


def parse(answer: str) -> dict[tuple[str, int], Used]:
    """The lines of `sacct -nPD -o FIELDS` by array job and index; steps count for the memory, jobs for the time."""
    found: dict[tuple[str, int], Used] = {}
    for line in answer.splitlines():
        fields = line.split("|")
        match = re.fullmatch(r"(\d+)(?:_(\d+))?(\.\w+)?", fields[0])
        if len(fields) != 8 or not match:
            continue
        _, state, elapsed, limit, asked, most, nodes, cpus = fields
        used = found.setdefault((match[1], int(match[2] or 0)), Used())
        if match[3] is None:
            used.seconds += float(elapsed) if elapsed.isdigit() else 0.0
            used.limit_seconds = _limit(limit)
            used.asked_megabytes = _asked(asked, nodes, cpus)
        elif megabytes(most) is not None:
            used.megabytes = max(used.megabytes or 0.0, megabytes(most) or 0.0)
        used.out_of_memory |= state.startswith("OUT_OF_ME")
    return {key: used for key, used in found.items() if used.seconds}


def megabytes(text: str) -> float | None:
    """`1.5G`, `300M`, `1024K` or bytes, in megabytes; None for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    return float(match[1]) * {"": 2**-20, "K": 2**-10, "M": 1, "G": 2**10, "T": 2**20}[match[2]] if match else None


def _asked(text: str, nodes: str, cpus: str) -> float | None:
    """The requested memory in megabytes. Older versions of Slurm append `n` (per node) or `c` (per CPU)."""
    amount = megabytes(text.rstrip("nc"))
    if not amount:
        return None
    times = {"n": nodes, "c": cpus}.get(text[-1], "1")
    return amount * (int(times) if times.isdigit() else 1)


def _limit(text: str) -> float | None:
    try:
        return 60.0 * minutes(text)
    except ValueError:  # UNLIMITED, for instance
        return None


def _together(one: Used, other: Used) -> Used:
    return Used(
        one.seconds + other.seconds,
        other.limit_seconds or one.limit_seconds,
        max((n for n in (one.megabytes, other.megabytes) if n is not None), default=None),
        other.asked_megabytes or one.asked_megabytes,
        one.out_of_memory or other.out_of_memory,
    )


def from_files(packs: Iterable[PackStatus]) -> dict[str, Used]:
    """The wall time of each pack that finished in one attempt: from its provenance.json to its done.json."""
    found = {}
    for pack in packs:
        try:
            attempts = pack.folder.attempts()
            if not pack.done or len(attempts) != 1:
                continue
            started = (attempts[0] / "provenance.json").stat().st_mtime
            seconds = (pack.folder.path / "done.json").stat().st_mtime - started
            if seconds > 0:  # not so where the folder was copied
                found[pack.folder.pack_id] = Used(seconds)
        except (OSError, RecordError):
            continue
    return found


def rows(found: SweepStatus, used: Usage) -> list[tuple[str, list[Used]]]:
    """Each variant of `found`, with what the packs of its runs used."""
    groups: dict[str, dict[str, Used]] = {}
    for cell in found.cells:
        name = cell.pack.folder.pack_id if cell.pack else ""
        if name in used.packs:
            groups.setdefault(cell.run.variant, {})[name] = used.packs[name]
    return [(variant, list(packs.values())) for variant, packs in groups.items()]


def largest_and_median(values: Sequence[float | None]) -> tuple[float, float] | None:
    """The maximum and the median of the known `values`; None if none is known."""
    known = [value for value in values if value is not None]
    return (max(known), median(known)) if known else None


def proposal(found: SweepStatus, used: Usage) -> dict[str, str]:
    """Fields for the next profile: the largest value of the finished packs, plus 25 %."""
    done = [used.packs[name] for name, pack in found.packs.items() if pack.done and name in used.packs]
    fields = {}
    most = largest_and_median([used.megabytes for used in done])
    if most:
        fields["memory"] = memory(most[0] * MEMORY_MARGIN)
    longest = largest_and_median([used.seconds for used in done])
    if longest:
        fields["time"] = time_limit(longest[0] * TIME_MARGIN)
    return fields


def time_limit(seconds: float) -> str:
    """Seconds in the form of a profile, H:MM:SS: rounded up to a multiple of 5 minutes, at least 5 minutes."""
    hours, rest = divmod(max(5, 5 * math.ceil(seconds / 300)), 60)
    return f"{hours}:{rest:02}:00"


def memory(amount: float) -> str:
    """Megabytes in the form of a profile: rounded up to 100 MB up to 1000 MB, and to whole gigabytes above."""
    return f"{100 * math.ceil(amount / 100)}M" if amount <= 1000 else f"{math.ceil(amount / 1024)}G"
