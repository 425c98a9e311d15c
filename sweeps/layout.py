"""Runs per pack and packs in parallel: the layout that is estimated to finish first."""

import heapq
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from scorer_core.config import RunConfig
from scorer_core.support.cores import usable_cores
from scorer_core.support.text import count, duration
from sweeps import price
from sweeps.speeds import Speeds

LANES_OF_A_JOB = 30  # default of a pack that a Slurm job trains: nothing is known about its node
LANES_OF_A_SEARCH = 16  # default of a pack in a search
CANDIDATES = (1, 2, 4, 8, 16, 32, 64, 128, 240)
MEMORY_FRACTION = 0.5  # of the machine's memory, for the replays of all packs that train in parallel
GPU_BYTES = 12e9  # for the replays of all packs on one GPU


@dataclass(frozen=True)
class Layout:
    """At most `lanes` runs per pack, `processes` packs in parallel with one thread each, and the reason in words."""

    lanes: int
    processes: int
    why: str
    device: str = "cpu"  # or `cuda`


def choose(
    configs: Sequence[RunConfig],
    lanes: int | None = None,
    processes: int | None = None,
    device: str = "cpu",
    speeds: Speeds | None = None,
) -> Layout:
    """The layout that finishes `configs` first on this machine.

    Args:
        configs: the runs to train.
        lanes: maximum runs per pack, if it is given.
        processes: packs in parallel, if it is given; by default one per core, or one on a GPU.
        device: `cpu`, `cuda` or `cuda:N`.
        speeds: of the packs that have trained there.
    """
    speeds = speeds or Speeds()
    device = device.partition(":")[0]
    processes = processes or (1 if device == "cuda" else usable_cores())
    if not configs:
        return Layout(lanes or 1, processes, "", device)
    fit = _lanes_that_fit(configs, device, processes)
    if lanes is not None:
        return Layout(lanes, processes, f"Up to {count(lanes, 'lane')} per pack, as requested.", device)
    if device not in price.measured():
        why = f"Up to {count(fit, 'lane')} per pack, as many as fit into memory: GPU speed has not been measured yet."
        return Layout(fit, processes, why, device)
    groups = by_shape(configs)
    most = max(len(alike) for alike in groups)
    candidates = [n for n in CANDIDATES if n <= fit and n < most] + ([most] if most <= fit else [])
    times = {n: wall_seconds(groups, n, processes, device, speeds) for n in candidates or [1]}
    best = min(times, key=lambda n: (round(times[n], 1), n))
    others = ", ".join(f"{duration(times[n])} with {n}" for n in times if n in _neighbours(list(times), best))
    others = f" (alternatives: {others})" if others else ""
    why = f"Up to {count(best, 'lane')} per pack{others}, one thread per pack."
    return Layout(best, processes, why, device)


def by_shape(configs: Sequence[RunConfig]) -> list[list[RunConfig]]:
    """`configs` in groups of equal SHAPE: a pack can train runs of one group."""
    groups: dict[str, list[RunConfig]] = {}
    for config in configs:
        groups.setdefault(config.shape_id, []).append(config)
    return list(groups.values())


def even(number: int, most: int) -> list[int]:
    """The sizes of the fewest packs of at most `most` runs for `number` runs; sizes differ by at most 1."""
    packs = -(-number // most)
    return [number * (i + 1) // packs - number * i // packs for i in range(packs)]


def wall_seconds(
    groups: Sequence[Sequence[RunConfig]],
    lanes: int,
    processes: int,
    device: str = "cpu",
    speeds: Speeds | None = None,
) -> float:
    """Estimated wall-clock seconds with packs of at most `lanes` runs.

    Args:
        groups: runs of equal SHAPE.
        lanes: maximum runs per pack.
        processes: packs in parallel.
        device: a kind of device that was measured.
        speeds: of the packs that have trained there.
    """
    speeds = speeds or Speeds()
    seconds = []
    for alike in groups:
        one = cache(lambda size, config=alike[0]: speeds.estimate(config, size, device).seconds)
        seconds += [one(size) for size in even(len(alike), lanes)]
    return makespan(seconds, processes)


def makespan(seconds: Sequence[float], processes: int) -> float:
    """Seconds until all packs are finished, if the longest starts first and the others go to the first free process.

    Args:
        seconds: of each pack.
        processes: packs in parallel.
    """
    busy = [0.0] * processes
    for taken in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + taken)
    return max(busy)


def _neighbours(sizes: list[int], best: int) -> list[int]:
    place = sizes.index(best)
    return [size for size in sizes[max(0, place - 1) : place + 2] if size != best]


def _lanes_that_fit(configs: Sequence[RunConfig], device: str, processes: int) -> int:
    """Runs per pack whose replays fit into the memory of one process."""
    bytes_ = (
        GPU_BYTES if device == "cuda" else MEMORY_FRACTION * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )
    lane = max(
        config.memory_transitions * price.transition_bytes(config.task)
        for config in {config.shape_id: config for config in configs}.values()
    )
    return max(1, int(bytes_ / processes / lane))
