"""A user's place on a login node of the dev cluster: a sweep, a profile, and the commands."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from scorer_core.metrics import MEASURED
from scorer_core.pack_folders import pack_folders
from scorer_core.records import PackFolder
from sweeps import loading
from sweeps.plan import make_plan
from tests.devcluster.cluster import DevCluster
from tests.devcluster.settings import ClusterError

ROOT = Path(__file__).parent.parent.parent
PATIENCE_SECONDS = 240.0

# Long enough to be interrupted while it trains; on a slow machine `Workplace` makes it shorter.
SMALL: dict[str, Any] = {
    "name": "small", "question": "?", "tasks": ["minatar/breakout"], "seeds": [0, 1],
    "base": {"ratio": 5, "num_envs": 8, "update_every": 8, "learning_starts": 200, "batch_size": 16,
             "replay_size": 1_600, "log_points": 20, "phi_widths": [24, 24], "theta_widths": [24],
             "target_every": 400},
}  # fmt: skip
SMALL_SECONDS, LONG_SECONDS = 16.0, 80.0  # of training on this machine
# At least and at most: the speed is measured once, and other tests may make it five times as slow in that moment.
SMALL_STEPS, LONG_STEPS = (100_000, 400_000), (480_000, 2_000_000)
PROFILE: dict[str, Any] = {
    "scheduler": "slurm", "partition": "low", "gpus": 1, "cpus": 1, "time": 30, "device": "cpu",
    "commit_seconds": 0.4, "signal_seconds": 30, "max_attempts": 200, "lanes": 32,
}  # fmt: skip


def wait_for(
    condition: Callable[[], object],
    seconds: float = PATIENCE_SECONDS,
    every: float = 0.1,
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Until the condition holds; it fails after `seconds` in which `progress` has not changed."""
    seen, end = progress(), time.monotonic() + seconds
    while not condition():
        now = progress()
        if now != seen:
            seen, end = now, time.monotonic() + seconds
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(every)


@lru_cache
def _steps_per_second() -> float:
    """How fast this machine trains each run of the small sweep, as it is loaded now and without the start."""
    with TemporaryDirectory() as folder:
        train_here(Path(folder), {"total_steps": 100_000})
        (file,) = Path(folder).glob(".speeds/*.json")
        (speed,) = json.loads(file.read_text())["packs"].values()
        return SMALL["base"]["num_envs"] / (speed["expected"] * speed["steps"])


def steps_in(seconds: float, bounds: tuple[int, int]) -> int:
    """How many steps of the small sweep take so long on this machine, so that a slow machine need not wait longer."""
    at_least, at_most = bounds
    return min(at_most, max(at_least, int(_steps_per_second() * seconds) // 4_000 * 4_000))


def long_sweep() -> dict[str, Any]:
    """What makes the small sweep long enough to be interrupted often."""
    return {"total_steps": steps_in(LONG_SECONDS, LONG_STEPS)}


def metrics(packs: Path) -> dict[str, bytes]:
    """All that was computed, run by run, as bits: every committed row but for what the clock measured."""
    tables = [pq.read_table(part) for folder in pack_folders(packs) for part in folder.parts()]
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks().drop_columns(list(MEASURED))
    runs = {}
    owners = table["run_id"].to_pylist()
    for run_id in set(owners):
        rows = table.filter(pa.array([owner == run_id for owner in owners])).sort_by("step")
        assert len(set(rows["step"].to_pylist())) == rows.num_rows, f"{run_id}: duplicate row"
        columns = [rows[name].to_numpy() for name in rows.column_names if name != "run_id"]
        runs[run_id] = b"".join(column.tobytes() for column in columns)
    return runs


def hasten(cluster: DevCluster, ours: Callable[[str], bool]) -> None:
    """Spare the requeued jobs with names of `ours` the two minutes that Slurm lets them wait, but for a few seconds.

    In the second of the requeue itself their node would still refuse them: «Job credential revoked».
    """
    lines = cluster.command("squeue", "--noheader", "--array", "--format=%i|%S|%r|%j").splitlines()
    for job, start, reason, name in (line.split("|") for line in lines):
        if reason != "BeginTime" or not ours(name) or start == "N/A":
            continue
        if (datetime.fromisoformat(start) - datetime.now()).total_seconds() > 10:
            with suppress(ClusterError):  # it may have started by itself
                cluster.command("scontrol", "update", f"jobid={job}", "starttime=now+3")


class Workplace:
    """One folder with a definition and a profile; `scorer` runs a command as a user would."""

    def __init__(self, cluster: DevCluster, folder: Path, sweep: dict[str, Any] | None = None, **profile: Any):
        self.cluster, self.folder, self.outputs = cluster, folder, folder / "outputs"
        folder.mkdir(parents=True, exist_ok=True)
        self.profile, self.sweep = folder / "dev.yaml", folder / "sweep.yaml"
        self.profile.write_text(yaml.safe_dump({**PROFILE, **profile}))
        content = _definition(sweep)
        self.name = content["name"]
        self.sweep.write_text(yaml.safe_dump(content))

    @property
    def packs(self) -> Path:
        return self.outputs / self.name / "packs"

    @property
    def pack(self) -> PackFolder:
        """The pack, where there is one only."""
        (pack,) = pack_folders(self.packs)
        return pack

    def start(self, command: str, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """A command on the sweep; `submit` under the profile."""
        profile = ["--profile", str(self.profile)] if command == "submit" else []
        words = [command, str(self.sweep), *arguments, *profile, "--outputs", str(self.outputs)]
        return self._start(words, environment or {})

    def _start(self, words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", *words], cwd=ROOT, env=self.cluster.environment() | environment,
            text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, command: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self._finish(self.start(command, *arguments, **options))

    def run_words(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command that is not about the sweep."""
        return self._finish(self._start(list(words), {}))

    def _finish(self, process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        with process:
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert "Traceback" not in err, err
        # Where the machine is slow, a command also prints what it waits for.
        err = "".join(line for line in err.splitlines(keepends=True) if not line.startswith("waiting for "))
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def scorer(self, command: str, *arguments: str, **options: Any) -> str:
        """What a command that must succeed prints."""
        done = self.run(command, *arguments, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        return json.loads(self.scorer("status", "--json"))

    def states(self) -> dict[str, int]:
        """How many runs are in each state."""
        return {state: count for state, count in self.status()["counts"].items() if count}

    # --- what Slurm has ---

    def jobs(self, *states: str) -> list[str]:
        """The tasks of ours that are queued, as `array_index`; in `states` if given (PENDING, RUNNING, ...)."""
        lines = self.cluster.command("squeue", "--noheader", "--array", "--format=%i|%T|%j").splitlines()
        jobs = [line.split("|") for line in lines]
        return [job for job, state, name in jobs if self._ours(name) and (not states or state in states)]

    def _ours(self, name: str) -> bool:
        return name.startswith(f"scorer-{self.name}-") and not name.endswith("-report")

    def hasten(self) -> None:
        hasten(self.cluster, self._ours)

    def step(self) -> int:
        """Of the one pack: how far it is, by its last commit or heartbeat."""
        return max(self.pack.committed_step(), self.pack.state().get("step", 0))

    def attempts(self) -> int:
        """Of the one pack: how often it was started."""
        return len(list((self.pack.path / "attempts").glob("*")))

    def training(self, attempt: int = 1) -> bool:
        """Of the one pack: does (at least) this attempt train?"""
        state = self.pack.state()
        return state.get("attempt", 0) >= attempt and state.get("phase") == "training"

    def wait_until_training(self, attempt: int = 1, step: int = 0) -> None:
        def reached() -> bool:
            self.hasten()
            return self.training(attempt) and self.step() >= step

        wait_for(reached, every=0.2, progress=self.progress)

    def progress(self) -> list[object]:
        """What changes as long as its packs are started or train."""
        states = [folder.state() for folder in pack_folders(self.packs)]
        return [(state.get("attempt"), state.get("phase"), state.get("step")) for state in states]

    def wait_until_done(self, runs: int) -> None:
        """Until that many runs are finished, requeued jobs spared their waiting."""

        def finished() -> bool:
            self.hasten()
            return sum(len(folder.done()) for folder in pack_folders(self.packs)) == runs

        wait_for(finished, every=0.5, progress=self.progress)

    def wait_until_done_or_lost(self) -> None:
        """Until its runs are finished, or nothing of it is in Slurm."""

        def over() -> bool:
            self.hasten()
            return self.states().keys() <= {"done", "lost"}

        wait_for(over, every=1, progress=self.progress)

    def wait_until_empty(self) -> None:
        """Until Slurm has nothing of ours any more, the report included."""
        name = f"scorer-{self.name}-"
        wait_for(lambda: name not in self.cluster.command("squeue", "--noheader", "--format=%j"), every=0.3)

    # --- processes of its jobs ---

    def processes(self) -> list[int]:
        """The processes that train: `python -m slurm.jobs.train_pack` on a pack of ours."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().decode(errors="replace").split("\0")
                if "slurm.jobs.train_pack" in words and any(
                    word.startswith(str(self.packs.resolve())) for word in words
                ):
                    found.append(int(path.parent.name))
        return found

    def kill_trainer(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _definition(sweep: dict[str, Any] | None) -> dict[str, Any]:
    """The small sweep with these changes, and so short that it does not take long."""
    content = SMALL | (sweep or {})
    if "total_steps" not in (sweep or {}):
        content["total_steps"] = steps_in(SMALL_SECONDS, SMALL_STEPS)
    return content


def train_here(folder: Path, sweep: dict[str, Any] | None = None) -> list[PackFolder]:
    """The packs of the small sweep with these changes, trained on this machine without Slurm and without a fault."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(_definition(sweep)))
    plan = make_plan(loading.load(str(path)), folder, PROFILE["lanes"])
    plan.write()
    for pack in plan.packs:
        command = [sys.executable, "-m", "slurm.jobs.train_pack", str(pack.folder.path), "--device", "cpu"]
        subprocess.run(command, cwd=ROOT, check=True)
    return pack_folders(plan.folder / "packs")


def says(*lines: str) -> str:
    """The body of a script that prints `lines`."""
    return "cat <<'END'\n" + "\n".join(lines) + "\nEND"
