"""Statistics of learning curves, runs drawn whole: aggregates at every step, time to a threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.comparisons import simultaneous
from analysis.statistics import Bootstrap, Counts, Estimate, can_resample, few_seeds_widening, iqm_of_each, ones


@dataclass(frozen=True)
class TimeToThreshold:
    """When the IQM over runs first reaches a threshold, in environment steps; infinite where it never does."""

    threshold: float
    steps: Estimate
    reached: int  # runs whose own curve gets there
    runs: int


def curve_iqm(curves: np.ndarray, bootstrap: Bootstrap, together: bool = False) -> Estimate:
    """IQM at each step, as arrays (steps,), of curves seeds x tasks x steps; a run is all finite or all NaN.

    The band is pointwise; with `together` it holds at all steps together (max-t).

    Raises:
        ValueError: if there is no run.
    """
    available = np.isfinite(curves[..., 0]) if curves.shape[-1] else np.zeros(curves.shape[:2], bool)
    if not available.any():
        raise ValueError("curves hold no run")
    value = _iqm_at_each_step(curves, ones(available))[:, 0]
    if not can_resample(available):
        return bootstrap.interval(value, np.array([]), available)
    replicates = _iqm_at_each_step(curves, bootstrap.counts(available))
    if not together:
        return bootstrap.interval(value, replicates, available)
    widening = few_seeds_widening(available, bootstrap.level) if bootstrap.few_seeds_correction else 1.0
    half = widening * simultaneous(value, replicates, bootstrap.level)
    return Estimate(value, value - half, value + half)


def _iqm_at_each_step(curves: np.ndarray, counts: Counts) -> np.ndarray:
    """Steps x replications."""
    present = np.isfinite(curves[..., 0])
    return iqm_of_each(curves[present].astype(float), counts[present])


def times_to_thresholds(
    curves: np.ndarray, steps: np.ndarray, thresholds: Sequence[float], bootstrap: Bootstrap
) -> list[TimeToThreshold]:
    """The first of `steps` at which the IQM reaches each threshold; a replication that never does counts as infinite.

    `curves` are seeds x tasks x steps, a run all finite or all NaN; usually of one task.
    """
    available = np.isfinite(curves[..., 0])
    runs = curves[available]
    value = _iqm_at_each_step(curves, ones(available))
    many = can_resample(available)
    replicates = _iqm_at_each_step(curves, bootstrap.counts(available)) if many else value
    tails = [(1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2]
    found = []
    for threshold in thresholds:
        # An order statistic, not a mean of two: halfway between a step and never is nothing.
        low, high = np.quantile(_first(replicates >= threshold, steps), tails, method="inverted_cdf")
        bounds = (low, high) if many else (np.nan, np.nan)
        reached = int((runs.max(axis=1) >= threshold).sum())
        point = np.asarray(_first(value >= threshold, steps)[0])
        found.append(TimeToThreshold(threshold, Estimate(point, *map(np.asarray, bounds)), reached, len(runs)))
    return found


def _first(reached: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Of (steps, replications): the step of the first True, infinite without one."""
    return np.where(reached.any(axis=0), steps[reached.argmax(axis=0)], np.inf)
