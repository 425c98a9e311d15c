"""The speed of an attempt, kept for later estimates of the machine or partition on which it trained."""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from scorer_core.records import PackFolder
from scorer_core.support.cores import cpu_model
from scorer_core.support.errors import RecordError
from slurm.places import HERE, THREADS, speeds_file
from slurm.submissions.submission import read
from sweeps import speeds
from sweeps.speeds import PackSpeed

if TYPE_CHECKING:
    from scorer_core.train import Clock

log = logging.getLogger("scorer")

MOST_SECONDS_TO_START = 60.0  # of a process; more means that the kernel does not tell when it started


def process_age() -> float:
    """Seconds since this process was started, before Python ran; 0 if the kernel does not tell."""
    with suppress(OSError, ValueError, IndexError):
        started = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
        if 0 < age < MOST_SECONDS_TO_START:
            return age
    return 0.0


def keep_speed(
    folder: PackFolder, device: str, clock: "Clock", began: float, submission: str = "", core_share: float = 1.0
) -> None:
    """Keep the speed of an attempt that has ended. If that is not possible, the log says why: nothing else is lost.

    Args:
        folder: of the pack.
        device: `cpu` or `cuda`.
        clock: of the attempt.
        began: when its process started, in seconds of `time.monotonic`.
        submission: of its job; empty if it was started on this machine without one.
        core_share: the part of a CPU core that its process had.
    """
    sweep = folder.path.parent.parent
    try:
        speed = measured(folder, device, clock, began, core_share)
        profile = read(sweep / "submissions" / submission).profile if submission else HERE
        if speed:
            speeds.keep(speeds_file(sweep.parent, profile), folder.pack_id, speed)
    except RecordError as error:
        log.warning("the speed of this pack is not kept for later estimates: %s", error)


def measured(
    folder: PackFolder, device: str, clock: "Clock", began: float, core_share: float = 1.0
) -> PackSpeed | None:
    """The speed of an attempt that has ended (`keep_speed`); None if it was too short.

    Raises:
        RecordError: if the record of the pack cannot be read.
    """
    full, ended = clock.full_speed, clock.ended
    if full is None or ended is None:
        return None
    share = core_share if device == "cpu" else 1.0
    around = full.time - began + time.monotonic() - ended.time
    configs = folder.configs()
    return speeds.measure(
        configs[0], len(configs), device,
        start=(full.vector_step - clock.begun.vector_step, around * share),
        full_speed=(ended.vector_step - full.vector_step, (ended.time - full.time) * share),
        threads=os.environ[THREADS], cpu=cpu_model(),
    )  # fmt: skip
