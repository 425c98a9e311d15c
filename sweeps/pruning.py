"""Which trials end at a rung: trials are compared on the same tasks with the same seeds, at the same step."""

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
    """Those of `candidates` that end here.

    Args:
        search: names the pruner and its settings.
        scores: of every trial that has come to this rung, the candidates among them: a number a run, runs in one order.
        candidates: trial numbers.
    """
    sign = 1 if search.directions[0] == "maximize" else -1
    worth = {number: float(np.nan_to_num(sign * iqm(runs), nan=-np.inf)) for number, runs in scores.items()}
    ranked = sorted(worth, key=lambda number: (-worth[number], number))
    if search.pruner == "halving":
        return candidates - set(ranked[: math.ceil(search.pruner_keep * len(ranked))])
    if search.pruner == "wilcoxon":
        return {n for n in candidates if n != ranked[0] and _worse(search, scores[n], scores[ranked[0]])}
    return set()


def _worse(search: Search, runs: np.ndarray, best: np.ndarray) -> bool:
    """Does Optuna's signed-rank test, run against paired run, find `runs` worse than `best`?"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = WilcoxonPruner(p_threshold=search.pruner_p, n_startup_steps=0)
    study = optuna.create_study(direction=search.directions[0])
    study.add_trial(create_trial(value=float(best.mean()), intermediate_values=dict(enumerate(best.tolist()))))
    trial = create_trial(state=TrialState.RUNNING, intermediate_values=dict(enumerate(runs.tolist())))
    return pruner.prune(study, trial)
