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

    A trial with a run that has no score yet gives no evidence: it is not compared, so it neither ends here nor makes
    another trial end. Equal trials are treated alike: their numbers decide nothing.

    Args:
        search: names the pruner and its settings.
        scores: of every trial that has come to this rung, the candidates among them: one number per run, NaN if it
            has no score yet; runs are in one order.
        candidates: trial numbers.
    """
    sign = 1 if search.directions[0] == "maximize" else -1
    compared = {number: runs for number, runs in scores.items() if np.isfinite(runs).all()}
    worth = {number: sign * float(iqm(runs)) for number, runs in compared.items()}
    if not worth:
        return set()
    if search.pruner == "halving":
        last_kept = sorted(worth.values(), reverse=True)[math.ceil(search.keep_fraction * len(worth)) - 1]
        return {number for number in candidates & worth.keys() if worth[number] < last_kept}
    if search.pruner == "wilcoxon":
        best = max(worth, key=lambda number: (worth[number], -number))
        behind = {number for number in candidates & worth.keys() if worth[number] < worth[best]}
        return {number for number in behind if _worse(search, compared[number], compared[best])}
    return set()


def _worse(search: Search, runs: np.ndarray, best: np.ndarray) -> bool:
    """Does Optuna's signed-rank test, run against paired run, find `runs` worse than `best`?"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = WilcoxonPruner(p_threshold=search.p_threshold, n_startup_steps=0)
    study = optuna.create_study(direction=search.directions[0])
    study.add_trial(create_trial(value=float(best.mean()), intermediate_values=dict(enumerate(best.tolist()))))
    trial = create_trial(state=TrialState.RUNNING, intermediate_values=dict(enumerate(runs.tolist())))
    return pruner.prune(study, trial)
