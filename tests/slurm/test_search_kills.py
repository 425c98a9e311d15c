"""Eight workers of one search, real processes on real storages, killed at random moments."""

import itertools
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from slurm.jobs.search_worker import Worker
from sweeps.batches import Batch
from sweeps.storage import STORAGE_VARIABLE
from sweeps.study import STARTS_WITHOUT_PROGRESS, Study
from tests.postgresql import postgresql  # noqa: F401, a fixture
from tests.search_synthetic import SyntheticTrainer, returns, search_of
from tests.slurm.test_search_worker import finishing_writes

ROOT = Path(__file__).parent.parent.parent
WORKERS, KILLS, TRIALS = 8, 16, 36
NUMBERS = itertools.count()


class Process:
    """A worker, with a log of its own that says what it holds."""

    def __init__(self, folder: Path):
        command = [sys.executable, "-W", "ignore", "-m", "tests.search_synthetic", str(folder), "3", "0.4"]
        self.log = folder / "logs" / f"{next(NUMBERS)}.log"
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    @property
    def holds_trials(self) -> bool:
        return self.lives and "trials" in self.log.read_text()

    def would_be_the_last_start(self, study: Study) -> bool:
        """Was its batch started so often without a commit that it is given up if this worker is killed, too?

        test_search_worker.py tests that; here every trial is to be finished.
        """
        lines = [line for line in self.log.read_text().splitlines() if "trials " in line]
        if not lines:
            return False
        first = int(lines[-1].split("trials ")[1].split(",")[0])
        batch = Batch(study.folder / "batches" / f"{first:06d}", {})
        recent = batch.starts[-STARTS_WITHOUT_PROGRESS:] if batch.read() else []
        return len(recent) == STARTS_WITHOUT_PROGRESS and all(start == recent[0] for start in recent)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        return self._process.wait()


def search_and_kill(study: Study, seed: int) -> tuple[int, str]:
    """Keep eight workers and kill one now and then, mostly such as hold trials; how many were killed, and the logs."""
    dice, kills, starting = random.Random(seed), 0, KILLS // 4
    workers = [Process(study.folder) for _ in range(WORKERS)]
    started = list(workers)
    try:
        while kills < KILLS and any(worker.lives for worker in workers):
            time.sleep(dice.uniform(0.05, 0.8))
            holding = [i for i, worker in enumerate(workers) if worker.holds_trials]
            victims = holding
            if starting and dice.random() < 0.2:
                victims, starting = [i for i, worker in enumerate(workers) if worker.lives], starting - 1
            victims = [i for i in victims if not workers[i].would_be_the_last_start(study)]
            if victims:
                victim = dice.choice(victims)
                workers[victim].kill()
                kills += 1
                workers[victim] = Process(study.folder)
                started.append(workers[victim])
        codes = {worker.wait() for worker in workers}
    finally:
        for worker in workers:
            worker.kill()
    logs = "".join(worker.log.read_text() for worker in started)
    assert codes == {0}, logs
    return kills, logs


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["journal", "postgresql"])
def test_every_trial_is_told_exactly_once_none_lost_none_left_running(tmp_path, monkeypatch, request, storage):
    if storage == "postgresql":
        monkeypatch.setenv(STORAGE_VARIABLE, request.getfixturevalue("postgresql"))
    study = Study(search_of(trials=TRIALS, pruner="halving"), tmp_path / "syn")
    kills, logs = search_and_kill(study, seed=5)
    assert kills >= KILLS // 2, "they were done before they could be killed"
    # The next worker takes over the trials of the killed ones.
    assert Worker(study, SyntheticTrainer(), 3).work() == 0
    trials = study.trials()
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            expected = [returns(run)[-4:].mean() for run in study.search.runs(trial.params)]
            assert trial.user_attrs["scores"][0] == pytest.approx(expected)
            assert trial.value == pytest.approx(np.mean(expected))
    if storage == "journal":
        writes = finishing_writes(study)
        assert len(writes) == TRIALS
        assert set(writes.values()) == {1}
    assert logs.count("taken over") >= 3, "few workers were killed that held trials"
    assert "Traceback" not in logs
