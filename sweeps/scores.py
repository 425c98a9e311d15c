"""The score of a trial: from the logged rows of its runs to one number per objective. `read_curves` reads files."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import trim_mean

from scorer_core.config import RunConfig
from scorer_core.records import PackFolder
from scorer_core.scores import FINAL_WINDOW, auc, final, steps_to_threshold
from sweeps.search import Objective, Search

Curve = tuple[np.ndarray, np.ndarray]  # environment steps and returns; NaN before the first finished episode
NOTHING: Curve = (np.array([]), np.array([]))


def read_curves(folders: Iterable[PackFolder], run_ids: Iterable[str]) -> dict[str, Curve]:
    """The committed returns of these runs, by run id; of a run in several packs (one was split), the longest curve.

    Raises:
        RecordError: if a part is missing or damaged.
    """
    wanted, found = set(run_ids), dict[str, Curve]()
    for folder in folders:
        table = folder.rows(["return"], wanted)
        steps, returns = table["step"].to_numpy(), table["return"].to_numpy().astype(float)
        end = 0
        for run_id, rows in itertools.groupby(table["run_id"].to_pylist()):  # sorted by run
            start, end = end, end + sum(1 for _ in rows)
            if run_id not in found or end - start > len(found[run_id][0]):
                found[run_id] = steps[start:end], returns[start:end]
    return found


def of_run(objective: Objective, curve: Curve, up_to: int, total_steps: int) -> float:
    """The score of one run after `up_to` of `total_steps` environment steps; NaN if the run has no score yet.

    The definitions of the scores are in scorer_core/scores.py, which reports use, too.
    """
    steps, returns = curve
    if not len(steps):
        return float("nan")
    if objective.name == "iqm_final":
        between = up_to < total_steps and steps[-1] <= (1 - FINAL_WINDOW) * up_to  # a rung between two logged steps
        return final(steps, returns, steps[-1] if between else up_to)
    if objective.name == "auc":
        return auc(steps, returns)
    assert objective.threshold is not None
    reached = steps_to_threshold(steps, returns, objective.threshold)
    return float(up_to) if np.isnan(reached) else reached


def blocks(search: Search, runs: Sequence[RunConfig], curves: dict[str, Curve], up_to: int) -> np.ndarray:
    """Scores of a trial's runs after `up_to` environment steps, with the scale of each task.

    Returns:
        `num_objectives x num_runs`, NaN for a run without a score.
    """
    scores = np.full((len(search.objective), len(runs)), np.nan)
    for column, run in enumerate(runs):
        steps, returns = curves.get(run.run_id, NOTHING)
        if up_to < run.total_steps:
            steps, returns = steps[steps <= up_to], returns[steps <= up_to]
        zero, one = search.scale.get(run.task, (0.0, 1.0))
        for row, objective in enumerate(search.objective):
            curve = steps, (returns - zero) / (one - zero)
            scores[row, column] = of_run(objective, curve, up_to, run.total_steps)
    return scores


def iqm(scores: np.ndarray) -> np.ndarray:
    """Interquartile mean over the last axis (`num_runs`): the mean without the lowest and the highest quarter.

    The quarters are rounded down. NaN if one run has no score. rliable's `aggregate_iqm` is the same number.
    """
    return trim_mean(scores, 0.25, axis=-1)


def why_no_score(runs: Sequence[RunConfig], curves: dict[str, Curve], scores: np.ndarray) -> str:
    """In one line: the first run whose score is not finite, and why.

    Args:
        runs: of a trial.
        curves: of `read_curves`.
        scores: `num_objectives x num_runs`, of `blocks` at the end of training.
    """
    run = runs[int(np.flatnonzero(~np.isfinite(scores).all(axis=0))[0])]
    steps, returns = curves.get(run.run_id, NOTHING)
    name = f"run {run.run_id} ({run.task}, seed {run.seed})"
    if not len(steps):
        return f"{name} has no logged rows"
    if not np.isfinite(returns).any():
        why = "no episode ended (raise total_steps), or a reward was not finite"
        return f"{name} has no return in {steps[-1]:,} steps: {why}"
    return f"{name} has no return in the last {FINAL_WINDOW:.0%} of training; its last row is at step {steps[-1]:,}"
