"""Workers of a search on this machine, and what they have come to."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from scorer_core.identity import pack_id
from scorer_core.records import PackFolder, RecordError, open_log, pack_folders
from slurm.job import FINISHED
from slurm.watch import SECONDS_BETWEEN_LINES, progress
from sweeps.search import Search
from sweeps.study import Batch, Study
from sweeps.terminal import count

POLL_SECONDS = 0.5
TOLD = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def worker_command(folder: Path, together: int, lanes: int, device: str, commit_seconds: float) -> list[str]:
    """What starts a worker; where a database has a password, it stands in the environment and nowhere else."""
    command = [sys.executable, "-m", "slurm.search_worker", str(folder), "--together", str(together)]
    return [*command, "--lanes", str(lanes), "--device", device, "--commit-seconds", str(commit_seconds)]


def trials_together(search: Search, trials: int, workers: int, lanes: int) -> int:
    """As many as fill packs of at most `lanes` runs, but no more than leave each worker an equal share of `trials`."""
    full = max(1, lanes // len(search.seeds))
    rounds = -(-trials // (workers * full)) or 1
    return max(1, -(-trials // (workers * rounds)))


class LocalWorkers:
    """Worker processes with sessions of their own; they stop, committing, when told to or when this process is gone."""

    def __init__(self, folder: Path, together: int, lanes: int, device: str, commit_seconds: float):
        self._folder = folder
        self._command = worker_command(folder, together, lanes, device, commit_seconds)
        self._command += ["--parent", str(os.getpid())]
        self.interrupts = 0
        self._workers: list[subprocess.Popen[bytes]] = []

    def run(self, processes: int, on_tick: Any) -> list[int]:
        """Start so many and wait for them; `on_tick` is called a few times a second. Their exit codes."""
        logs: list[IO[bytes]] = []
        numbers = signal.SIGINT, signal.SIGTERM
        before = {number: signal.signal(number, lambda *_: self._interrupt()) for number in numbers}
        try:
            for place in range(processes):
                path = self._folder / "workers" / f"{place}.log"
                logs.append(open_log(path))
                started = subprocess.Popen(
                    self._command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=logs[-1], stderr=logs[-1]
                )
                self._workers.append(started)
            while any(worker.poll() is None for worker in self._workers):
                time.sleep(POLL_SECONDS)
                on_tick()
            on_tick()
            return [worker.returncode for worker in self._workers]
        finally:
            for log in logs:
                log.close()
            self._workers.clear()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupt(self) -> None:
        self.interrupts += 1
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM if self.interrupts == 1 else signal.SIGKILL)


def train_here(study: Study, workers: LocalWorkers, processes: int, on_tick: Any) -> list[int]:
    """Run workers until every trial is told, others in the place of those that were killed; their last exit codes.

    It gives up when they were killed without having told a trial, committed a step or taken over a batch in between;
    a batch is taken over a few times only.
    """
    before = None
    while True:
        codes = workers.run(processes, on_tick)
        left = [trial for trial in study.trials() if trial.state == TrialState.RUNNING]
        now = len(study.trials()), len(left), _committed(study), _started(study)
        if workers.interrupts or (all(code == FINISHED for code in codes) and not left) or now == before:
            return codes
        if not any(code < 0 for code in codes):
            return codes
        before = now


def _committed(study: Study) -> int:
    """Checkpoints and finished packs there are: a number that moves when anything does."""
    packs = pack_folders(study.folder / "packs")
    return sum(pack.committed_step() + (pack.path / "done.json").exists() for pack in packs)


def _started(study: Study) -> int:
    """How often workers have begun a batch."""
    batches = (Batch(path.parent, {}) for path in (study.folder / "batches").glob("*/batch.json"))
    return sum(len(batch.starts) for batch in batches if batch.read())


class SearchBars:
    """How far a search is: trials told, environment steps a second, and the best so far."""

    def __init__(self, study: Study, console: Console):
        self._study, self._console, self._spoken = study, console, time.monotonic()
        self._progress = progress(console)
        first = study.search.default[0]
        self._steps_a_trial = first.total_steps * len(study.search.default)
        self._bar = self._progress.add_task("", total=study.search.trials_at_most * self._steps_a_trial)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def show(self) -> None:
        """Draw how far the study is."""
        trials = self._study.trials()
        told = sum(trial.state in TOLD for trial in trials)
        steps, speed = self._in_flight(trials)
        failed = sum(trial.state == TrialState.FAIL for trial in trials)
        text = f"{told} of {count(self._study.search.trials_at_most, 'trial')}"
        text += (f", {failed} failed" if failed else "") + best_so_far(self._study, trials)
        self._progress.update(self._bar, completed=told * self._steps_a_trial + steps, description=text, speed=speed)
        if not self._console.is_terminal and time.monotonic() - self._spoken > SECONDS_BETWEEN_LINES:
            self._spoken = time.monotonic()
            self._console.print(f"{text}, {speed:,.0f} steps/s")

    def _in_flight(self, trials: list[FrozenTrial]) -> tuple[int, float]:
        """Environment steps of the batches in training so far, and a second."""
        names = {t.user_attrs["batch"] for t in trials if t.state == TrialState.RUNNING and "batch" in t.user_attrs}
        steps, speed, packs = 0, 0.0, self._study.folder / "packs"
        for name in names:
            batch = Batch(self._study.folder / "batches" / name, {})
            try:
                batch.read()
                states = [PackFolder(packs / pack_id(run_ids)).state() for run_ids in batch.packs]
            except RecordError:
                continue  # drawn again in a moment
            steps += sum(state.get("step", 0) * state.get("lanes", 0) for state in states)
            speed += sum(s.get("steps_per_second", 0.0) for s in states if s.get("phase") == "training")
        return steps, speed


def best_so_far(study: Study, trials: list[FrozenTrial]) -> str:
    """In words: the best value and where it is, of one objective; the number of points on a Pareto front of several."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        return ""
    if len(study.search.objective) > 1:
        return f", {len(study.optuna.best_trials)} on the Pareto front"
    sign = 1 if study.search.directions[0] == "maximize" else -1
    best = max(complete, key=lambda trial: sign * trial.values[0])
    return f", best {best.values[0]:.4g} at {point_in_words(best.params)}"


def point_in_words(point: dict[str, Any]) -> str:
    return ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in point.items()) or "base"
