"""Memory and time that jobs used, compared with what they asked for; and what to ask for next time."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from scorer_core.records import RecordError
from slurm.backend import SchedulerError
from slurm.cluster.scheduler import run_command
from slurm.profile import minutes
from slurm.status import PackStatus, SweepStatus

MEMORY_MARGIN, TIME_MARGIN = 1.25, 1.25  # of a proposal over the largest value that was used
FIELDS = "JobID,State,ElapsedRaw,Timelimit,ReqMem,MaxRSS,NNodes,NCPUS"


@dataclass
class Used:
    """What the jobs of one pack used: wall seconds of all its attempts together, and the largest memory of one."""

    seconds: float = 0.0
    limit_seconds: float | None = None
    megabytes: float | None = None
    asked_megabytes: float | None = None
    out_of_memory: bool = False


@dataclass(frozen=True)
class Usage:
    """The packs' use; `source` is where it comes from, `complaint` why accounting says nothing."""

    packs: dict[str, Used]
    source: str
    complaint: str = ""


def usage(board: SweepStatus) -> Usage:
    """What each started pack of `board` used: from accounting, and otherwise from its files (wall time only)."""
    places = {
        (request.job, index): name
        for submission in board.submissions
        if submission.packs
        for request in submission.arrays
        if request.job
        for index, name in enumerate(submission.packs[request.first : request.first + request.count])
    }
    jobs = sorted({job for job, _ in places})
    if not jobs:
        return Usage(from_files(board.packs.values()), "the packs' files")
    try:
        # -D: also the attempts before a requeue.
        found = parse(run_command("sacct", "-nPD", "--units=M", "-j", ",".join(jobs), "-o", FIELDS))
    except SchedulerError as error:
        return Usage(from_files(board.packs.values()), "the packs' files", str(error))
    packs: dict[str, Used] = {}
    for (job, index), used in found.items():
        name = places.get((job, index))
        if name:
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
    """Older versions of Slurm end the request with `n` (per node) or `c` (per CPU)."""
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
    """The wall time of each finished pack that needed one attempt: from its provenance to its done.json."""
    found = {}
    for pack in packs:
        try:
            attempts = pack.folder.attempts()
            if not pack.done or len(attempts) != 1:
                continue
            began = (attempts[0] / "provenance.json").stat().st_mtime
            seconds = (pack.folder.path / "done.json").stat().st_mtime - began
            if seconds > 0:  # not so where the folder was copied
                found[pack.folder.pack_id] = Used(seconds)
        except (OSError, RecordError):
            continue
    return found


def rows(board: SweepStatus, found: Usage) -> list[tuple[str, list[Used]]]:
    """Each variant of the board's cells with what the packs used that train its runs."""
    groups: dict[str, dict[str, Used]] = {}
    for cell in board.cells:
        name = cell.pack.folder.pack_id if cell.pack else ""
        if name in found.packs:
            groups.setdefault(cell.run.variant, {})[name] = found.packs[name]
    return [(variant, list(packs.values())) for variant, packs in groups.items()]


def largest_and_median(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (max(known), median(known)) if known else None


def proposal(board: SweepStatus, found: Usage) -> dict[str, str]:
    """Fields of the next profile: from the packs that are done, a quarter more than the largest value."""
    done = [found.packs[name] for name, pack in board.packs.items() if pack.done and name in found.packs]
    fields = {}
    most = largest_and_median([used.megabytes for used in done])
    if most:
        fields["memory"] = memory(most[0] * MEMORY_MARGIN)
    longest = largest_and_median([used.seconds for used in done])
    if longest:
        fields["time"] = time_limit(longest[0] * TIME_MARGIN)
    return fields


def time_limit(seconds: float) -> str:
    """Seconds as a profile has them: H:MM:SS, rounded up to 5 minutes, and at least so many."""
    hours, rest = divmod(max(5, 5 * math.ceil(seconds / 300)), 60)
    return f"{hours}:{rest:02}:00"


def memory(amount: float) -> str:
    """Megabytes as a profile has them: rounded up to 100 MB below 1 GB, and to whole gigabytes above."""
    return f"{100 * math.ceil(amount / 100)}M" if amount <= 1000 else f"{math.ceil(amount / 1024)}G"
