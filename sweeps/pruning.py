"""Which trials are pruned at a rung: trials are compared on the same tasks and seeds, at the same step."""

import math
import warnings
from collections.abc import Mapping

import numpy as np
import optuna
from optuna.pruners import WilcoxonPruner
from optuna.trial import TrialState, create_trial

from sweeps.scores import iqm
from sweeps.search import Search


def to_prune(search: Search, scores: Mapping[int, np.ndarray], candidates: set[int]) -> set[int]:
    """The trials of `candidates` that are pruned at this rung.

    A trial with a run without a score is not compared: it is not pruned, and no other trial is pruned because of it.
    Trials with equal scores are treated alike, whatever their numbers.

    Args:
        search: has the pruner and its settings.
        scores: by trial number, of every trial that has reached this rung (the candidates among them): `num_runs`
            values, runs in the same order for all trials, NaN for a run without a score.
        candidates: trial numbers.
    """
    sign = 1 if search.directions[0] == "maximize" else -1
    compared = {number: runs for number, runs in scores.items() if np.isfinite(runs).all()}
    height = {number: sign * float(iqm(runs)) for number, runs in compared.items()}
    if not height:
        return set()
    if search.pruner == "halving":
        last_kept = sorted(height.values(), reverse=True)[math.ceil(search.keep_fraction * len(height)) - 1]
        return {number for number in candidates & height.keys() if height[number] < last_kept}
    if search.pruner == "wilcoxon":
        best = max(height, key=lambda number: (height[number], -number))
        behind = {number for number in candidates & height.keys() if height[number] < height[best]}
        return {number for number in behind if _worse(search, compared[number], compared[best])}
    return set()


def _worse(search: Search, runs: np.ndarray, best: np.ndarray) -> bool:
    """Does the signed-rank test of Optuna's WilcoxonPruner, on pairs of runs, find `runs` worse than `best`?

    Both have `num_runs` scores.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = WilcoxonPruner(p_threshold=search.p_threshold, n_startup_steps=0)
    study = optuna.create_study(direction=search.directions[0])
    study.add_trial(create_trial(value=float(best.mean()), intermediate_values=dict(enumerate(best.tolist()))))
    trial = create_trial(state=TrialState.RUNNING, intermediate_values=dict(enumerate(runs.tolist())))
    return pruner.prune(study, trial)
