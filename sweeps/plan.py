"""The plan of a sweep: its unfinished runs, their packs, and the estimated time."""

import itertools
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from scorer_core.config import RunConfig
from scorer_core.identity import pack_id
from scorer_core.pack_folders import ignored_folders, pack_folders
from scorer_core.record_forms import now, read_record
from scorer_core.records import PackFolder
from scorer_core.support.commands import retrain
from scorer_core.support.cores import usable_cores
from scorer_core.support.errors import RecordError
from scorer_core.support.files import replace_file, write_json
from scorer_core.support.text import count, folded
from sweeps.definition import Sweep
from sweeps.layout import Layout, by_shape, choose, even, makespan
from sweeps.loading import dump
from sweeps.reading import with_checksum
from sweeps.speeds import Estimate, Speeds

# On a GPU. Compiling takes up to a minute on one core, so it pays after about so many. The choice must not depend on
# the pack: compiled and eager code differ in their last bits, and a run in a pack must equal the same run alone.
COMPILE_FROM_VECTOR_STEPS = 40_000
COMPILE_FROM_UPDATES_OF_PQN = 20_000

Compile = Literal["auto", "on", "off"]


class WrittenPlan(BaseModel):
    """plan-<n>.json"""

    packs: dict[str, list[str]] = {}  # run ids by pack id


@dataclass(frozen=True)
class PlannedPack:
    """Runs to train together; `started` if its folder is there from an earlier submission."""

    folder: PackFolder
    configs: list[RunConfig]
    started: bool
    compiled: bool
    estimate: Estimate  # of its whole training, in one process on one core
    eager_allowed: bool = False  # where it trains, if there is no compiler

    @property
    def env_steps(self) -> int:
        """Environment steps of all runs."""
        return sum(config.total_steps for config in self.configs)

    @property
    def seconds(self) -> float:
        """Estimated seconds of the whole training."""
        return self.estimate.seconds


@dataclass(frozen=True)
class Plan:
    """The unfinished runs of a sweep in packs, and the state of all others."""

    sweep: Sweep
    folder: Path
    done: dict[str, str]  # run id to `done` or `diverged`
    packs: list[PlannedPack]  # the unfinished runs, longest pack first
    layout: Layout
    damaged: frozenset[str]  # run ids that are neither in `done` nor in `packs`: a record of their pack is damaged
    problems: tuple[str, ...]  # damaged records, and how to train their runs again

    @cached_property
    def run_ids(self) -> set[str]:
        """The ids of all runs of the sweep."""
        return {run.run_id for run in self.sweep.runs}

    @property
    def missing(self) -> int:
        """The number of runs to train, those of damaged packs not counted."""
        return len(self.run_ids - self.done.keys() - self.damaged)

    @property
    def seconds(self) -> float:
        """Estimated wall-clock seconds on this machine, until the last pack has ended."""
        at_once = min(self.layout.processes, len(self.packs))
        crowded = max(1.0, at_once / usable_cores()) if self.layout.device == "cpu" else 1.0
        return crowded * makespan([pack.seconds for pack in self.packs], self.layout.processes)

    def write(self) -> None:
        """Write the definition, the folders of new packs and `plan-<n>.json`, before anything is started.

        Raises:
            RecordError: if the folder cannot be written.
        """
        replace_file(self.folder / "sweep.yaml", with_checksum(dump(self.sweep)))
        for pack in self.packs:
            if not pack.started:
                PackFolder.create(self.folder / "packs", pack.configs, pack.compiled, eager_allowed=pack.eager_allowed)
        if not self.packs:
            return
        names = [re.fullmatch(r"plan-([0-9]+)\.json", path.name) for path in self.folder.iterdir()]
        numbers = [int(name[1]) for name in names if name]
        packs = {pack.folder.pack_id: [config.run_id for config in pack.configs] for pack in self.packs}
        content = {"time": now(), "done": self.done, "packs": packs}
        write_json(self.folder / f"plan-{1 + max(numbers, default=0)}.json", content)


def worth_compiling(config: RunConfig, device: str) -> bool:
    """Is a run so long that torch.compile saves time? Never on a `cpu`, where packs run machine code of our own."""
    if device == "cpu":
        return False
    if config.family == "pqn":
        return config.num_updates >= COMPILE_FROM_UPDATES_OF_PQN
    return config.vector_steps >= COMPILE_FROM_VECTOR_STEPS


def make_plan(
    sweep: Sweep,
    outputs: Path,
    lanes_per_pack: int | None = None,
    compile: Compile = "auto",
    processes: int | None = None,
    only: Collection[str] | None = None,
    device: str = "cpu",
    speeds: Speeds | None = None,
) -> Plan:
    """The plan of `sweep` with the records in `outputs`. Nothing is written; interrupted packs are continued.

    The runs of a damaged pack are planned only after its folder is removed; the plan's `problems` name the command.

    Args:
        sweep: the definition.
        outputs: folder of all sweeps.
        lanes_per_pack: maximum runs per pack; by default sweeps/layout.py chooses for this machine.
        compile: `torch.compile` for new packs on a GPU; `auto` if it saves time.
        processes: packs trained in parallel; by default those of this machine.
        only: run ids; all other runs are left out of the packs.
        device: `cpu`, `cuda` or `cuda:N`, on which the packs will train.
        speeds: of the packs that have trained where these will train; by default only the shipped figures are known.

    Raises:
        RecordError: if the folder of the packs cannot be read.
    """
    speeds = speeds or Speeds()
    folder = outputs / sweep.name
    wanted = {run.run_id: run.config for run in sweep.runs}
    done: dict[str, str] = {}
    started: list[tuple[PackFolder, list[RunConfig], bool]] = []
    broken: dict[str, set[str]] = {}  # damaged packs with their run ids, as far as these can be read
    problems = ignored_folders(folder / "packs")
    for pack in pack_folders(folder / "packs"):
        try:
            statuses = pack.verified_done()
            if statuses:
                done |= {run_id: entry["status"] for run_id, entry in statuses.items() if run_id in wanted}
            else:
                configs = pack.configs()
                if {config.run_id for config in configs} <= set(
                    pack.run_ids()
                ):  # otherwise its runs compute something else in this version
                    started.append((pack, configs, pack.compiled()))
        except RecordError as error:
            broken[pack.pack_id] = pack.known_runs() & wanted.keys()
            problems.append(f"{error}; this pack is damaged, so it is not trained")
    if not all(broken.values()):  # their records are unreadable, and these runs might now be in packs of other sizes
        before = _packs_of_earlier_plans(folder)
        broken = {name: runs or before.get(name, set()) & wanted.keys() for name, runs in broken.items()}
    damaged = set().union(*broken.values()) - done.keys()
    left = set(wanted if only is None else only) - done.keys() - damaged
    missing = {run_id: config for run_id, config in wanted.items() if run_id in left}
    packs = []
    for pack, configs, compiled_before in started:
        if any(config.run_id in missing for config in configs):
            estimate = speeds.estimate(configs[0], len(configs), device)
            packs.append(PlannedPack(pack, configs, True, compiled_before, estimate))
            for config in configs:
                missing.pop(config.run_id, None)

    def compiled(config: RunConfig) -> bool:
        return worth_compiling(config, device) if compile == "auto" else compile == "on"

    layout = choose(list(missing.values()), lanes_per_pack, processes, device, speeds)
    for alike in by_shape(list(missing.values())):
        rest = iter(alike)
        for size in even(len(alike), layout.lanes):
            configs = list(itertools.islice(rest, size))
            name = pack_id([config.run_id for config in configs])
            if name in broken:  # pack.json is damaged, so its runs could not be read above
                damaged |= {config.run_id for config in configs}
                continue
            pack = PackFolder(folder / "packs" / name)
            estimate = speeds.estimate(configs[0], len(configs), device)
            packs.append(PlannedPack(pack, configs, False, compiled(configs[0]), estimate, compile == "auto"))
    if broken:
        problems.append(retrain(folder))
    packs.sort(key=lambda pack: -pack.seconds)
    return Plan(sweep, folder, done, packs, layout, frozenset(damaged), tuple(problems))


def _packs_of_earlier_plans(folder: Path) -> dict[str, set[str]]:
    """The run ids of each pack in the files `plan-<n>.json` of a sweep that can be read."""
    packs: dict[str, set[str]] = {}
    for path in folder.glob("plan-*.json"):
        with suppress(RecordError):
            found = read_record(path, WrittenPlan)
            packs |= {name: set(run_ids) for name, run_ids in found.packs.items()} if found else {}
    return packs


def find_run(outputs: Path, run_id: str) -> tuple[PackFolder, RunConfig]:
    """The pack and configuration of the run whose id starts with `run_id`.

    Raises:
        RecordError: if there is no such run, or several.
    """
    found, unread = {}, []
    for pack in (pack for packs in sorted(outputs.glob("*/packs")) for pack in pack_folders(packs)):
        try:
            found |= {config.run_id: (pack, config) for config in pack.configs() if config.run_id.startswith(run_id)}
        except RecordError as error:
            unread.append(str(error))
    if len(found) != 1:
        also = f"; {count(len(unread), 'pack')} cannot be read: {unread[0]}" if unread else ""
        if not found:
            raise RecordError(f"{run_id}: no such run in {outputs}{also}")
        runs = f"{count(len(found), 'run')} ({folded(sorted(found), 5)})"
        raise RecordError(f"{run_id} is ambiguous: it matches {runs} in {outputs}{also}")
    return next(iter(found.values()))
