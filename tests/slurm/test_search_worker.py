"""Workers of a search, through the code that trains: with a stand-in for training, whose records are real."""

import itertools
import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from scorer_core.records import PackFolder
from slurm.jobs.search_worker import Worker
from slurm.jobs.train_pack import FINISHED, INTERRUPTED
from sweeps.confirm import ranking
from sweeps.search import Search
from sweeps.study import Study
from tests.search_synthetic import BEST_RATIO, SyntheticTrainer, returns, search_of, worth
from tests.searches import ended, finishing_writes, searched


def regret(search: Search, ratio: float) -> float:
    """How much worth a choice gives away, noise apart."""
    return 10.0 - worth(search.runs({"ratio": ratio})[0])


def test_eight_trials_at_a_time_find_the_optimum_as_well_as_optunas_own_loop_one_by_one(tmp_path):
    """Over six sampler seeds at 32 trials: no more than 0.05 given away of 10, beyond what the loop gives away."""
    ours, theirs = [], []
    for seed in range(6):
        search = search_of(sampler_seed=seed, trials=32)
        study, _ = searched(search, tmp_path / str(seed), together=8)
        ours.append(regret(search, study.optuna.best_params["ratio"]))

        def objective(trial: optuna.Trial, search: Search = search) -> float:
            runs = search.runs({"ratio": trial.suggest_float("ratio", 0.01, 100, log=True)})
            return float(np.mean([returns(run)[-4:].mean() for run in runs]))

        loop = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        loop.optimize(objective, n_trials=32)
        theirs.append(regret(search, loop.best_params["ratio"]))
    assert np.mean(ours) <= np.mean(theirs) + 0.05, (ours, theirs)
    at_random = np.mean([min(regret(search_of(), 10**x) for x in row) for row in _uniform(6, 3)])
    assert np.mean(ours) < at_random / 2, "three random trials would do as well"


def _uniform(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-2, 2, (rows, columns))


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "qmc", "random", "grid"])
def test_the_same_seed_and_one_worker_give_identical_trials(tmp_path, sampler):
    space = {"ratio": {"log": [0.01, 100]}, "gamma": {"uniform": [0.9, 0.99]}}
    space = {"ratio": [0.1, 1.0, 4.0, 10.0, 50.0], "gamma": [0.9, 0.99]} if sampler == "grid" else space
    search = search_of(sampler=sampler, space=space, trials=16)
    first, _ = searched(search, tmp_path / "first")
    second, _ = searched(search, tmp_path / "second")
    assert ended(first.trials()) == ended(second.trials())
    assert len({tuple(trial.params.values()) for trial in first.trials()}) == (10 if sampler == "grid" else 16)
    if sampler in ("tpe", "random"):
        other, _ = searched(search.model_copy(update={"sampler_seed": 1}), tmp_path / "other")
        assert ended(other.trials()) != ended(first.trials())


@pytest.mark.parametrize("pruner", ["none", "halving"])
def test_stopped_again_and_again_the_trials_are_those_of_an_uninterrupted_search(tmp_path, pruner):
    search = search_of(pruner=pruner, trials=12)
    whole, _ = searched(search, tmp_path / "whole")
    study, lives = Study(search, tmp_path / "cut" / "syn"), 0
    while True:
        lives += 1
        commits = itertools.count()
        trainer = SyntheticTrainer(should_stop=lambda commits=commits: next(commits) > 4)
        code = Worker(study, trainer, 4, should_stop=lambda commits=commits: next(commits) > 4).work()
        if code == FINISHED:
            break
        assert code == INTERRUPTED
        assert lives < 100
    assert lives > 5
    assert ended(study.trials()) == ended(whole.trials())
    assert set(finishing_writes(study).values()) == {1}


def test_a_trial_names_its_runs_and_its_packs_hold_them(tmp_path):
    study, _ = searched(search_of(trials=6), tmp_path)
    for trial in study.trials():
        run_ids = [run.run_id for run in study.search.runs(trial.params)]
        assert trial.user_attrs["run_ids"] == run_ids == list(trial.user_attrs["runs"])
        for run_id, pack in trial.user_attrs["runs"].items():
            assert PackFolder(study.folder / "packs" / pack).done()[run_id]["status"] == "done"
        expected = [returns(run)[-4:].mean() for run in study.search.runs(trial.params)]
        assert trial.user_attrs["scores"][0] == pytest.approx(expected)
        assert trial.value == pytest.approx(np.mean(expected))


def test_a_point_met_again_reuses_the_finished_runs(tmp_path):
    search = search_of(space={"ratio": [1.0, 4.0]}, sampler="random", trials=10)
    study, trainer = searched(search, tmp_path, together=3)
    assert len(study.trials()) == 10
    assert sorted(trainer.trained) == sorted({run.run_id for r in (1.0, 4.0) for run in search.runs({"ratio": r})})
    values = {trial.params["ratio"]: set() for trial in study.trials()}
    for trial in study.trials():
        values[trial.params["ratio"]].add(trial.value)
    assert [len(found) for found in values.values()] == [1, 1]


def test_more_trials_may_be_asked_for_later(tmp_path):
    study, _ = searched(search_of(trials=5), tmp_path)
    before = ended(study.trials())
    more, _ = searched(search_of(trials=9), tmp_path)
    assert ended(more.trials())[:5] == before
    assert len(more.trials()) == 9


def test_several_objectives_give_a_pareto_front(tmp_path):
    search = search_of(objective=["iqm_final", {"time_to_threshold": 6.0}], trials=20)
    assert search.directions == ["maximize", "minimize"]
    study, _ = searched(search, tmp_path)
    front = ranking(study)
    for one in front:
        for other in study.trials():
            assert not (other.values[0] > one.values[0] and other.values[1] < one.values[1])
    never = [t for t in study.trials() if t.values[0] < 5]
    assert never
    assert {t.values[1] for t in never} == {4000.0}, "one that never gets there counts with its whole budget"


def test_halving_frees_the_pruned_lanes_and_says_what_it_saved(tmp_path):
    search = search_of(pruner="halving", rungs=[0.25, 0.5], keep_fraction=0.5, trials=16)
    study, trainer = searched(search, tmp_path, together=8)
    by_state = {state: [t for t in study.trials() if t.state == state] for state in TrialState}
    stopped = [t.user_attrs["pruned_at_step"] for t in by_state[TrialState.PRUNED]]
    assert len(by_state[TrialState.COMPLETE]) + len(stopped) == 16
    assert {1000, 2000} == set(stopped)
    assert trainer.steps == 3 * (4000 * len(by_state[TrialState.COMPLETE]) + sum(stopped)), "pruned lanes cost no more"
    kept = [abs(math.log10(t.params["ratio"] / BEST_RATIO)) for t in by_state[TrialState.COMPLETE]]
    gone = [abs(math.log10(t.params["ratio"] / BEST_RATIO)) for t in by_state[TrialState.PRUNED]]
    assert np.mean(kept) < np.mean(gone)
    for trial in by_state[TrialState.PRUNED]:
        assert list(trial.intermediate_values)[-1] == trial.user_attrs["pruned_at_step"]


def test_wilcoxon_prunes_what_is_worse_run_for_run_and_spares_what_is_not(tmp_path):
    search = search_of(pruner="wilcoxon", seeds=6, rungs=[0.5], trials=16)
    study, _ = searched(search, tmp_path, together=8)
    pruned = [t for t in study.trials() if t.state == TrialState.PRUNED]
    complete = [t for t in study.trials() if t.state == TrialState.COMPLETE]
    assert pruned
    assert complete
    best = max(complete, key=lambda t: t.value or 0.0)
    for trial in pruned:
        worse = np.array(trial.user_attrs["rung_0_scores"]) < np.array(best.user_attrs["rung_0_scores"])
        assert worse.sum() >= 4, "pruned though it won as many pairs as it lost"
