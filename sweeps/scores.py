"""What a trial is worth: from the rows its runs logged to one number an objective. Pure, but for reading the rows."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import trim_mean

from scorer_core.config import RunConfig
from scorer_core.records import PackFolder
from sweeps.search import Objective, Search

FINAL_WINDOW = 0.1  # the last share of training that `iqm_final` averages, as a report's final score
Curve = tuple[np.ndarray, np.ndarray]  # environment steps and returns, by step


def read_curves(folders: Iterable[PackFolder], run_ids: Iterable[str]) -> dict[str, Curve]:
    """The committed returns of these runs. A run that stands in several packs, which parted, is taken where it is.

    Raises:
        RecordError: if a part is missing or damaged.
    """
    wanted, found = set(run_ids), dict[str, Curve]()
    for folder in folders:
        table = folder.rows(["return"], wanted)
        ids = np.asarray(table["run_id"].to_pylist())
        steps, returns = table["step"].to_numpy(), table["return"].to_numpy().astype(float)
        for run_id in dict.fromkeys(ids.tolist()):
            mine = np.flatnonzero(ids == run_id)
            if run_id not in found or len(mine) > len(found[run_id][0]):
                found[run_id] = steps[mine], returns[mine]
    return found


def of_run(objective: Objective, curve: Curve, up_to: int) -> float:
    """One run's number, of a run that was planned to end at step `up_to`; NaN if it logged nothing."""
    steps, returns = curve
    if not len(steps):
        return float("nan")
    if objective.name == "iqm_final":
        late = returns[steps > (1 - FINAL_WINDOW) * up_to]
        return float(late.mean()) if len(late) else float(returns[-1])
    if objective.name == "auc":
        span = steps[-1] - steps[0]
        return float(np.trapezoid(returns, steps) / span) if span else float(returns[0])
    reached = np.flatnonzero(returns >= objective.threshold)
    return float(steps[reached[0]]) if len(reached) else float(up_to)


def blocks(search: Search, runs: Sequence[RunConfig], curves: dict[str, Curve], up_to: int) -> np.ndarray:
    """Scores of a trial's runs as they stood at step `up_to`, objectives x runs, tasks scaled; NaN without rows."""
    scores = np.full((len(search.objective), len(runs)), np.nan)
    for column, run in enumerate(runs):
        steps, returns = curves.get(run.run_id, (np.array([]), np.array([])))
        if up_to < run.total_steps:
            steps, returns = steps[steps <= up_to], returns[steps <= up_to]
        zero, one = search.scale.get(run.task, (0.0, 1.0))
        for row, objective in enumerate(search.objective):
            scores[row, column] = of_run(objective, (steps, (returns - zero) / (one - zero)), up_to)
    return scores


def iqm(scores: np.ndarray) -> np.ndarray:
    """Interquartile mean along the last axis: a quarter of the runs, rounded down, is cut at either end."""
    return trim_mean(scores, 0.25, axis=-1)
