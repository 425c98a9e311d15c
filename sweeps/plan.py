"""What a sweep still needs: the runs that are missing, in which packs, at what price."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scorer_core.config import RunConfig
from scorer_core.records import PackFolder, RecordError, now, pack_folders, pack_id, replace_file, write_json
from sweeps.definition import Sweep, dump

# One process on one core, PyTorch eager: seconds a vector step costs a pack, a lane and an environment (README).
SECONDS_PER_VECTOR_STEP = 5e-3
SECONDS_PER_LANE_ROUND = 2e-3
SECONDS_PER_ENV_STEP = 2e-5
SECONDS_TO_START = 8.0
LANES_PER_PACK = 16
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

    @property
    def env_steps(self) -> int:
        return sum(config.total_steps for config in self.configs)

    @property
    def seconds(self) -> float:
        """Estimated, from the beginning, on one core."""
        config, lanes = self.configs[0], len(self.configs)
        rounds = config.total_steps / max(config.update_every, config.num_envs)
        acting = config.vector_steps * SECONDS_PER_VECTOR_STEP / 5
        learning = rounds * (SECONDS_PER_VECTOR_STEP + lanes * SECONDS_PER_LANE_ROUND * (1 + config.follower_steps) / 2)
        return SECONDS_TO_START + acting + learning + self.env_steps * SECONDS_PER_ENV_STEP


@dataclass(frozen=True)
class Plan:
    sweep: Sweep
    folder: Path
    done: dict[str, str]  # run id to `done` or `diverged`
    packs: list[PlannedPack]  # what is missing, longest first
    compile: Compile

    @property
    def run_ids(self) -> set[str]:
        return {run.run_id for run in self.sweep.runs}

    @property
    def missing(self) -> int:
        return len(self.run_ids - self.done.keys())

    def seconds(self, processes: int) -> float:
        """Estimated wall time with `processes` at a time: each next pack goes to the process that is free first."""
        busy = [0.0] * max(1, processes)
        for pack in self.packs:
            busy[busy.index(min(busy))] += pack.seconds
        return max(busy)

    def write(self) -> None:
        """Put the plan on disk, before anything is started: the definition, the plan itself, the folders of new packs.

        Raises:
            RecordError: if the folder cannot be written.
        """
        replace_file(self.folder / "sweep.yaml", dump(self.sweep).encode())
        for pack in self.packs:
            if not pack.begun:
                compiled = worth_compiling(pack.configs[0]) if self.compile == "auto" else self.compile == "on"
                PackFolder.create(self.folder / "packs", pack.configs, compiled)
        numbers = [int(path.stem.removeprefix("plan-")) for path in self.folder.glob("plan-[0-9]*.json")]
        packs = {pack.folder.pack_id: [config.run_id for config in pack.configs] for pack in self.packs}
        content = {"time": now(), "done": self.done, "packs": packs}
        write_json(self.folder / f"plan-{1 + max(numbers, default=0)}.json", content)


def worth_compiling(config: RunConfig) -> bool:
    """Do the planned steps of a run repay compiling its pack?"""
    return config.vector_steps >= COMPILE_FROM_VECTOR_STEPS


def make_plan(sweep: Sweep, outputs: Path, lanes_per_pack: int = LANES_PER_PACK, compile: Compile = "auto") -> Plan:
    """What `sweep` needs given what is in `outputs`; nothing is written. Packs cut off earlier are gone on with.

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
    missing = {run_id: config for run_id, config in wanted.items() if run_id not in done}
    packs = []
    for pack in begun:
        configs = pack.configs()
        if any(config.run_id in missing for config in configs):
            packs.append(PlannedPack(pack, configs, begun=True))
            for config in configs:
                missing.pop(config.run_id, None)
    for configs in _chunks(missing.values(), lanes_per_pack):
        name = pack_id([config.run_id for config in configs])
        packs.append(PlannedPack(PackFolder(folder / "packs" / name), configs, begun=False))
    return Plan(sweep, folder, done, sorted(packs, key=lambda pack: -pack.seconds), compile)


def _chunks(configs: Iterable[RunConfig], lanes_per_pack: int) -> list[list[RunConfig]]:
    """Runs of equal shape, in packs as equal as they can be and no larger than `lanes_per_pack`."""
    by_shape: dict[str, list[RunConfig]] = {}
    for config in configs:
        by_shape.setdefault(config.shape_id, []).append(config)
    chunks = []
    for alike in by_shape.values():
        number = -(-len(alike) // lanes_per_pack)
        chunks += [alike[len(alike) * i // number : len(alike) * (i + 1) // number] for i in range(number)]
    return chunks


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
