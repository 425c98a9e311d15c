"""The workers of a search on this machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from optuna.trial import TrialState

from scorer_core.pack_folders import pack_folders
from scorer_core.support.files import open_log
from slurm.jobs.train_pack import FINISHED
from sweeps.batches import Batch
from sweeps.search import Search
from sweeps.study import Study

POLL_SECONDS = 0.5


def worker_command(folder: Path, per_batch: int, lanes: int, device: str, commit_seconds: float) -> list[str]:
    """The command of a worker that trains `per_batch` trials at a time. It contains no password of a database."""
    command = [sys.executable, "-m", "slurm.jobs.search_worker", str(folder), "--trials-per-batch", str(per_batch)]
    return [*command, "--lanes", str(lanes), "--device", device, "--commit-seconds", str(commit_seconds)]


def trials_per_batch(search: Search, trials: int, workers: int, lanes: int) -> int:
    """How many trials fill packs of at most `lanes` runs, but at most an equal share of `trials` per worker."""
    full = max(1, lanes // len(search.seeds))
    rounds = -(-trials // (workers * full)) or 1
    return max(1, -(-trials // (workers * rounds)))


class LocalWorkers:
    """Worker processes, each in its own session. They commit and stop on a signal, or if this process ends."""

    def __init__(self, folder: Path, per_batch: int, lanes: int, device: str, commit_seconds: float):
        self._folder = folder
        self._command = worker_command(folder, per_batch, lanes, device, commit_seconds)
        self._command += ["--parent", str(os.getpid())]
        self.interrupts = 0
        self._workers: list[subprocess.Popen[bytes]] = []

    def run(self, processes: int, on_tick: Any) -> list[int]:
        """Start `processes` workers and wait for them; their exit codes. `on_tick` is called a few times per second."""
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
    """Run workers until all trials have ended, and replace killed workers; the last exit codes.

    It gives up if workers were killed and meanwhile no trial has ended, no step was committed and no batch was started.
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
    """The sum of all committed steps and finished packs, which changes with any progress."""
    packs = pack_folders(study.folder / "packs")
    return sum(pack.committed_step() + (pack.path / "done.json").exists() for pack in packs)


def _started(study: Study) -> int:
    """How often workers have started a batch."""
    batches = (Batch(path.parent, {}) for path in (study.folder / "batches").glob("*/batch.json"))
    return sum(len(batch.starts) for batch in batches if batch.read())
