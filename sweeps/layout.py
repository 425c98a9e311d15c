"""How many runs a pack takes, and how many packs at a time: what the measured speeds say is done first."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scorer_core.config import RunConfig
from scorer_core.support.text import count, duration
from sweeps import price

CORES = os.cpu_count() or 1
LANES_OF_A_JOB = 30  # default of a pack that a Slurm job trains: nothing is known about its node
LANES_OF_A_SEARCH = 16  # default of a pack in a search
CANDIDATES = (1, 2, 4, 8, 16, 32, 64, 128, 240)
MEMORY_SHARE = 0.5  # of the machine's, for the replays of all packs that train at a time
GPU_BYTES = 12e9


@dataclass(frozen=True)
class Layout:
    """At most `lanes` runs a pack, `processes` packs at a time of one thread each, and why."""

    lanes: int
    processes: int
    why: str


def found_device() -> str:
    """`cuda` where the driver of an NVIDIA GPU is, else `cpu`; asked without torch."""
    return "cuda" if Path("/dev/nvidiactl").exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != "" else "cpu"


def choose(
    configs: Sequence[RunConfig],
    compiled: Callable[[RunConfig], bool],
    lanes: int | None = None,
    processes: int | None = None,
) -> Layout:
    """The layout by which `configs` are done first on this machine; `lanes` and `processes` are kept where given."""
    device = found_device()
    processes = processes or (1 if device == "cuda" else CORES)
    if not configs:
        return Layout(lanes or 1, processes, "")
    fit = _lanes_that_fit(configs, device, processes)
    if lanes is not None:
        return Layout(lanes, processes, f"At most {count(lanes, 'lane')} a pack, as asked for.")
    if device not in price.measured():
        why = f"At most {count(fit, 'lane')} a pack, what fits the memory: no speed of a GPU was measured yet."
        return Layout(fit, processes, why)
    groups = by_shape(configs)
    most = max(len(alike) for alike in groups)
    candidates = [n for n in CANDIDATES if n <= fit and n < most] + ([most] if most <= fit else [])
    times = {n: wall_seconds(groups, n, processes, compiled) for n in candidates or [1]}
    best = min(times, key=lambda n: (round(times[n], 1), n))
    others = ", ".join(f"{duration(times[n])} with {n}" for n in times if n in _neighbours(list(times), best))
    others = f" ({others})" if others else ""
    why = f"At most {count(best, 'lane')} a pack{others}, one thread each, by speeds measured on a CPU."
    return Layout(best, processes, why)


def by_shape(configs: Sequence[RunConfig]) -> list[list[RunConfig]]:
    """`configs` in groups that one pack could train together."""
    groups: dict[str, list[RunConfig]] = {}
    for config in configs:
        groups.setdefault(config.shape_id, []).append(config)
    return list(groups.values())


def even(number: int, most: int) -> list[int]:
    """`number` runs in as few packs of at most `most` as there can be, as equal as they can be."""
    packs = -(-number // most)
    return [number * (i + 1) // packs - number * i // packs for i in range(packs)]


def wall_seconds(
    groups: Sequence[Sequence[RunConfig]], lanes: int, processes: int, compiled: Callable[[RunConfig], bool]
) -> float:
    """Estimated for packs of at most `lanes`, longest first, each going to the process that is free first."""
    seconds = []
    for alike in groups:
        one = cache(lambda size, config=alike[0]: price.seconds(config, size, compiled(config)))
        seconds += [one(size) for size in even(len(alike), lanes)]
    return makespan(seconds, processes)


def makespan(seconds: Sequence[float], processes: int) -> float:
    """Time until all is done, the longest begun first."""
    busy = [0.0] * processes
    for taken in sorted(seconds, reverse=True):
        busy[busy.index(min(busy))] += taken
    return max(busy)


def _neighbours(sizes: list[int], best: int) -> list[int]:
    place = sizes.index(best)
    return [size for size in sizes[max(0, place - 1) : place + 2] if size != best]


def _lanes_that_fit(configs: Sequence[RunConfig], device: str, processes: int) -> int:
    """Lanes whose replays fit the memory beside those of the other processes."""
    bytes_ = GPU_BYTES if device == "cuda" else MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lane = max(
        (config.replay_size + config.num_envs) * price.transition_bytes(config.task)
        for config in {config.shape_id: config for config in configs}.values()
    )
    return max(1, int(bytes_ / processes / lane))
