"""Searches of the synthetic trainer, and what tests read of their trials."""

import json
from collections.abc import Callable
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from scorer_core.config import RunConfig
from scorer_core.records import PackFolder
from slurm.jobs.search_worker import Worker
from slurm.jobs.train_pack import FINISHED
from sweeps.search import Search
from sweeps.study import Study
from tests.search_synthetic import SyntheticTrainer


def searched(search: Search, folder: Path, together: int = 4) -> tuple[Study, SyntheticTrainer]:
    """A study worked off by one worker."""
    study, trainer = Study(search, folder / search.name), SyntheticTrainer()
    assert Worker(study, trainer, together).work() == FINISHED
    return study, trainer


def ended(trials: list[FrozenTrial]) -> list[tuple]:
    return [(t.number, t.state, t.params, t.values, t.user_attrs.get("scores")) for t in trials]


def finishing_writes(study: Study) -> dict[int, int]:
    """How often the journal says of each trial that it has ended."""
    counts: dict[int, int] = {}
    for line in (study.folder / "study.journal").read_text().splitlines():
        record = json.loads(line)
        if TrialState(record.get("state", TrialState.RUNNING)).is_finished():
            counts[record["trial_id"]] = counts.get(record["trial_id"], 0) + 1
    return counts


class Raising(SyntheticTrainer):
    """Raises after so many commits of a pack that holds a run which is `bad`."""

    def __init__(self, error: BaseException, bad: Callable[[RunConfig], bool], commits: int = 0):
        super().__init__()
        self._error, self._bad, self._commits = error, bad, commits

    def train(self, folder: PackFolder, until: int | None) -> bool:
        if not any(self._bad(config) for config in folder.configs()):
            return super().train(folder, until)
        left = self._commits

        def ended() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        finished = SyntheticTrainer(should_stop=ended).train(folder, until)
        if left < 0:
            raise self._error
        return finished


def every_run(_: RunConfig) -> bool:
    return True


def points(study: Study) -> dict[str, list[float]]:
    """The ratios of the trials by state."""
    found: dict[str, list[float]] = {}
    for trial in study.trials():
        found.setdefault(trial.state.name, []).append(trial.params["ratio"])
    return found
