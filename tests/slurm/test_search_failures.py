"""Trials that fail: the others of their pack go on. With a stand-in for training, whose records are real."""

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from scorer_core.config import RunConfig
from scorer_core.pack_folders import pack_folders
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from slurm.jobs.search_worker import Worker
from slurm.jobs.train_pack import FAILED, FINISHED
from sweeps.studies import failures_in_words
from sweeps.study import Study, one_line_reason
from tests.search_synthetic import SyntheticTrainer, returns, search_of, without_returns
from tests.searches import Raising, every_run, finishing_writes, points


@pytest.mark.parametrize(
    ("error", "pruner", "commits"),
    [
        (RecordError("the environment cannot be made"), "none", 1),
        (ValueError("action 7 is invalid"), "none", 0),
        (KeyError("reward"), "halving", 0),
        (RuntimeError("the emulator crashed"), "halving", 1),
        (MemoryError(), "none", 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_a_trial_that_raises_fails_alone_once_with_its_reason_and_is_never_adopted(tmp_path, error, pruner, commits):
    """Trials of one pack: the others go on, from the pack's last commit, to the scores that they have without it."""
    search = search_of(
        space={"ratio": [1.0, 2.0, 4.0, 8.0]}, sampler="grid", trials=4, pruner=pruner, keep_fraction=0.99
    )
    study = Study(search, tmp_path / "syn")
    trainer = Raising(error, lambda config: config.ratio == 2.0, commits)
    assert Worker(study, trainer, 4).work() == FINISHED
    assert points(study)["FAIL"] == [2.0]
    assert sorted(points(study)["COMPLETE"]) == [1.0, 4.0, 8.0]
    failed = next(trial for trial in study.trials() if trial.state == TrialState.FAIL)
    assert failed.user_attrs["error"] == one_line_reason(error)
    assert set(finishing_writes(study).values()) == {1}
    for folder in pack_folders(study.folder / "packs"):
        assert folder.verified_done()
    for trial in study.trials():
        if trial.state == TrialState.COMPLETE:
            assert trial.value == pytest.approx(np.mean([returns(c)[-4:].mean() for c in search.runs(trial.params)]))
    if commits:
        assert not trainer.trained, "the other trials go on from the commit of the pack that raised"
    assert Worker(study, SyntheticTrainer(), 4).work() == FINISHED
    assert points(study)["FAIL"] == [2.0]


def test_a_pack_that_is_too_large_for_the_memory_is_divided_and_no_trial_fails(tmp_path):
    class Small(SyntheticTrainer):
        def train(self, folder: PackFolder, until: int | None) -> bool:
            if len(folder.run_ids()) > 2:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
            return super().train(folder, until)

    study = Study(search_of(trials=4, pruner="halving"), tmp_path / "syn")
    assert Worker(study, Small(), 4).work() == FINISHED
    assert "FAIL" not in points(study)
    assert sum(map(len, points(study).values())) == 4


def test_a_point_that_is_no_valid_setting_fails_alone(tmp_path):
    space = {"ratio": [1.0, 2.0], "batch_size": [8, 300], "replay_size": [200, 400]}
    search = search_of(space=space, sampler="grid", trials=8, base={"num_envs": 8, "replay_size": 400})
    study = Study(search, tmp_path / "syn")
    assert Worker(study, SyntheticTrainer(), 8).work() == FINISHED
    failed = [trial for trial in study.trials() if trial.state == TrialState.FAIL]
    assert len(failed) == 2
    for trial in failed:
        assert (trial.params["batch_size"], trial.params["replay_size"]) == (300, 200)
        assert "batch_size (300) is larger than replay_size (200)" in trial.user_attrs["error"]
        assert "\n" not in trial.user_attrs["error"]


TWO_POINTS = {"sampler": "random", "space": {"ratio": [2.0, 4.0]}}


def test_a_point_that_failed_is_trained_when_it_is_met_again(tmp_path):
    """With more trials after the cause is fixed, as the search advises. The pack has the same runs, so the same id."""
    study = Study(search_of(trials=3, **TWO_POINTS), tmp_path / "syn")
    Worker(study, Raising(ValueError("no such ROM"), every_run), 1).work()
    failed = points(study)["FAIL"]
    study = Study(search_of(trials=6, **TWO_POINTS), tmp_path / "syn")
    assert Worker(study, SyntheticTrainer(), 1).work() == FINISHED
    assert points(study)["FAIL"] == failed
    assert set(failed) & set(points(study)["COMPLETE"])


def test_a_point_that_was_pruned_is_trained_from_its_start_when_it_is_met_again(tmp_path, monkeypatch):
    first = iter([True])
    monkeypatch.setattr("slurm.jobs.search_batch.to_prune", lambda *_: {0} if next(first, False) else set())
    search = search_of(trials=6, pruner="halving", **TWO_POINTS)
    study = Study(search, tmp_path / "syn")
    assert Worker(study, SyntheticTrainer(), 1).work() == FINISHED
    assert set(points(study)) == {"PRUNED", "COMPLETE"}
    again = [trial for trial in study.trials()[1:] if trial.params == study.trials()[0].params]
    assert again
    for trial in again:
        assert trial.value == pytest.approx(np.mean([returns(c)[-4:].mean() for c in search.runs(trial.params)]))


def test_when_everything_fails_a_worker_gives_up_before_the_budget_is_spent(tmp_path):
    study = Study(search_of(trials=30), tmp_path / "syn")
    trainer = Raising(ValueError("no such ROM"), every_run)
    assert Worker(study, trainer, 2).work() == FAILED
    assert [trial.state for trial in study.trials()] == [TrialState.FAIL] * 4
    assert study.all_failed()
    assert failures_in_words(study) == ["trials 0, 1, 2, 3 failed: ValueError: no such ROM"]


def test_a_run_without_an_episode_fails_its_trial_with_the_reason(tmp_path):
    def curve(config: RunConfig) -> np.ndarray:
        return without_returns(config, 99_999 if config.ratio == 2.0 and config.seed == 1 else 1000)

    search = search_of(space={"ratio": [1.0, 2.0, 4.0]}, sampler="grid", trials=3, seeds=5)
    study = Study(search, tmp_path / "syn")
    assert Worker(study, SyntheticTrainer(curve=curve), 3).work() == FINISHED
    assert points(study)["FAIL"] == [2.0]
    failed = next(trial for trial in study.trials() if trial.state == TrialState.FAIL)
    run = search.runs({"ratio": 2.0})[1]
    assert failed.user_attrs["error"] == (
        f"run {run.run_id} (minatar/breakout, seed 1) has no return in 4,000 steps: no episode ended "
        "(raise total_steps), or a reward was not finite"
    )


@pytest.mark.parametrize("pruner", ["halving", "wilcoxon"])
def test_a_trial_without_a_return_at_a_rung_is_not_pruned_there_and_none_for_its_number(tmp_path, pruner):
    """Before step 1,500 no run has a return; the trials of odd ratios have none before step 2,500."""

    def curve(config: RunConfig) -> np.ndarray:
        return without_returns(config, 2500 if config.ratio in (0.03, 30.0) else 1500)

    space = {"ratio": [0.03, 0.1, 1.0, 4.0, 10.0, 30.0]}
    search = search_of(space=space, sampler="grid", trials=6, seeds=6, pruner=pruner, rungs=[0.25, 0.5])
    study = Study(search, tmp_path / "syn")
    assert Worker(study, SyntheticTrainer(curve=curve), 6).work() == FINISHED
    stopped = {trial.params["ratio"]: trial.user_attrs.get("pruned_at_step") for trial in study.trials()}
    assert set(stopped.values()) <= {None, 2000}
    assert stopped[0.03] is stopped[30.0] is stopped[4.0] is None
    assert stopped[0.1] == 2000


def test_trials_asked_for_by_a_worker_that_died_asking_are_taken_over_once(tmp_path):
    search = search_of(trials=6)
    study = Study(search, tmp_path / "syn")
    study.optuna.sampler = optuna.samplers.RandomSampler(seed=0)
    study.optuna.ask()  # nothing drawn yet
    study.optuna.ask().suggest_float("ratio", 0.01, 100, log=True)
    left = study.optuna.trials[1].params
    assert Worker(study, SyntheticTrainer(), 4).work() == FINISHED
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE] * 6
    assert study.trials()[1].params == left, "what had been drawn stays"


def test_a_batch_is_not_taken_from_a_worker_that_lives(tmp_path):
    search = search_of(trials=4)
    one, other = (Study(search, tmp_path / "syn") for _ in range(2))
    batch = one.claim(4)
    assert batch is not None
    assert sorted(batch.points) == [0, 1, 2, 3]
    assert other.claim(4) is None
    batch.release()
    again = other.claim(4)
    assert again is not None
    assert again.adopted
    assert again.points == batch.points
    again.release()
