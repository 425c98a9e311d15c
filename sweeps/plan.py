"""What a sweep still needs: the runs that are missing, in which packs, at what price."""

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scorer_core.config import RunConfig
from scorer_core.identity import pack_id
from scorer_core.records import PackFolder, RecordError, now, pack_folders, replace_file, write_json
from sweeps import price
from sweeps.definition import Sweep, dump
from sweeps.layout import Layout, by_shape, choose, even, makespan

# Compiling takes a core up to a minute and saves 2 to 7 ms a vector step, so it is repaid after about this many.
# It must not depend on the pack: compiled and eager code differ in their last bits, and a lane is the run alone.
COMPILE_FROM_VECTOR_STEPS = 40_000

Compile = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class PlannedPack:
    """Runs to be trained together; `begun` if an earlier submission made its folder."""

    folder: PackFolder
    configs: list[RunConfig]
    begun: bool
    compiled: bool

    @property
    def env_steps(self) -> int:
        return sum(config.total_steps for config in self.configs)

    @property
    def seconds(self) -> float:
        """Estimated, from the beginning, on one core."""
        return self.seconds_on("cpu")

    def seconds_on(self, device: str) -> float:
        """Estimated, from the beginning, on a kind of device that was measured (sweeps/price.py)."""
        return price.seconds(self.configs[0], len(self.configs), self.compiled, device)


@dataclass(frozen=True)
class Plan:
    sweep: Sweep
    folder: Path
    done: dict[str, str]  # run id to `done` or `diverged`
    packs: list[PlannedPack]  # what is missing, longest first
    layout: Layout

    @property
    def run_ids(self) -> set[str]:
        return {run.run_id for run in self.sweep.runs}

    @property
    def missing(self) -> int:
        return len(self.run_ids - self.done.keys())

    @property
    def seconds(self) -> float:
        """Estimated wall time."""
        return makespan([pack.seconds for pack in self.packs], self.layout.processes)

    def write(self) -> None:
        """Put the plan on disk, before anything is started: the definition, the folders of new packs, what is planned.

        Raises:
            RecordError: if the folder cannot be written.
        """
        replace_file(self.folder / "sweep.yaml", dump(self.sweep).encode())
        for pack in self.packs:
            if not pack.begun:
                PackFolder.create(self.folder / "packs", pack.configs, pack.compiled)
        if not self.packs:
            return
        numbers = [int(path.stem.removeprefix("plan-")) for path in self.folder.glob("plan-[0-9]*.json")]
        packs = {pack.folder.pack_id: [config.run_id for config in pack.configs] for pack in self.packs}
        content = {"time": now(), "done": self.done, "packs": packs}
        write_json(self.folder / f"plan-{1 + max(numbers, default=0)}.json", content)


def worth_compiling(config: RunConfig) -> bool:
    """Do the planned steps of a run repay compiling its pack?"""
    return config.vector_steps >= COMPILE_FROM_VECTOR_STEPS


def make_plan(
    sweep: Sweep,
    outputs: Path,
    lanes_per_pack: int | None = None,
    compile: Compile = "auto",
    processes: int | None = None,
    only: Collection[str] | None = None,
) -> Plan:
    """What `sweep` needs given what is in `outputs`; nothing is written. Packs cut off earlier are gone on with.

    Without `lanes_per_pack` or `processes` this machine's are chosen (sweeps/layout.py). `only` leaves all runs but
    these out of the packs.

    Raises:
        RecordError: if a record there cannot be read.
    """
    folder = outputs / sweep.name
    wanted = {run.run_id: run.config for run in sweep.runs}
    done: dict[str, str] = {}
    begun: list[PackFolder] = []
    for pack in pack_folders(folder / "packs"):
        statuses = pack.done()
        done |= {run_id: entry["status"] for run_id, entry in statuses.items() if run_id in wanted}
        if not statuses:
            begun.append(pack)
    left = wanted.keys() if only is None else only
    missing = {run_id: config for run_id, config in wanted.items() if run_id in left and run_id not in done}
    packs = []
    for pack in begun:
        configs = pack.configs()
        if any(config.run_id in missing for config in configs):
            packs.append(PlannedPack(pack, configs, True, pack.compiled()))
            for config in configs:
                missing.pop(config.run_id, None)

    def compiled(config: RunConfig) -> bool:
        return worth_compiling(config) if compile == "auto" else compile == "on"

    layout = choose(list(missing.values()), compiled, lanes_per_pack, processes)
    for alike in by_shape(list(missing.values())):
        rest = iter(alike)
        for size in even(len(alike), layout.lanes):
            configs = list(itertools.islice(rest, size))
            name = pack_id([config.run_id for config in configs])
            packs.append(PlannedPack(PackFolder(folder / "packs" / name), configs, False, compiled(configs[0])))
    return Plan(sweep, folder, done, sorted(packs, key=lambda pack: -pack.seconds), layout)


def find_run(outputs: Path, run_id: str) -> tuple[PackFolder, RunConfig]:
    """The pack and configuration of the run whose id begins with `run_id`.

    Raises:
        RecordError: if none does, or several.
    """
    found = {
        config.run_id: (pack, config)
        for packs in sorted(outputs.glob("*/packs"))
        for pack in pack_folders(packs)
        for config in pack.configs()
        if config.run_id.startswith(run_id)
    }
    if len(found) != 1:
        several = f"{len(found)} runs begin so: {', '.join(sorted(found)[:5])}" if found else "no such run"
        raise RecordError(f"{run_id}: {several} in {outputs}")
    return next(iter(found.values()))
