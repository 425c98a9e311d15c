"""Statistics of learning curves, runs drawn whole: aggregates at every step, time to a threshold."""

from collections.abc import Iterator, Sequence
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
    """IQM at each step, as arrays (steps,), of curves seeds x tasks x steps, NaN where a run has no value.

    At each step the IQM is over the runs that have a value there, and the interval resamples these runs. The IQM is NaN
    where a task has no run with a value. The band is pointwise; with `together` it holds at all steps together (max-t).

    Raises:
        ValueError: if there is no run.
    """
    if not np.isfinite(curves).any():
        raise ValueError("curves hold no run")
    found = Estimate(*np.full((3, curves.shape[-1]), np.nan))
    joint: list[tuple[np.ndarray, np.ndarray, float]] = []  # of each group: its steps, its replicates, its widening
    for available, columns in _by_available_runs(curves):
        here = curves[..., columns]
        value = _iqm_at_each_step(here, ones(available))[:, 0]
        if not can_resample(available):
            _put(found, columns, bootstrap.interval(value, np.array([]), available))
            continue
        replicates = _iqm_at_each_step(here, bootstrap.counts(available))
        if together:
            found.value[columns] = value
            widening = few_seeds_widening(available, bootstrap.level) if bootstrap.few_seeds_correction else 1.0
            joint.append((columns, replicates, widening))
        else:
            _put(found, columns, bootstrap.interval(value, replicates, available))
    if joint:
        columns = np.concatenate([group[0] for group in joint])
        widening = np.concatenate([np.full(len(group[0]), group[2]) for group in joint])
        replicates = np.concatenate([group[1] for group in joint])
        half = widening * simultaneous(found.value[columns], replicates, bootstrap.level)
        found.low[columns], found.high[columns] = found.value[columns] - half, found.value[columns] + half
    return found


def _by_available_runs(curves: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Steps in groups that have the same runs: (bool seeds x tasks, places of the steps), every task with a run."""
    present = np.isfinite(curves)
    patterns, group = np.unique(present.reshape(-1, curves.shape[-1]), axis=1, return_inverse=True)
    for place, pattern in enumerate(patterns.T):
        available = np.ascontiguousarray(pattern.reshape(present.shape[:2]))
        if available.any(axis=0).all():
            yield available, np.flatnonzero(group == place)


def _put(found: Estimate, columns: np.ndarray, here: Estimate) -> None:
    for whole, part in zip(found, here, strict=True):
        whole[columns] = part


def _iqm_at_each_step(curves: np.ndarray, counts: Counts) -> np.ndarray:
    """Steps x replications, of steps that have the same runs."""
    present = np.isfinite(curves[..., 0])
    return iqm_of_each(curves[present].astype(float), counts[present])


def times_to_thresholds(
    curves: np.ndarray, steps: np.ndarray, thresholds: Sequence[float], bootstrap: Bootstrap
) -> list[TimeToThreshold]:
    """The first of `steps` at which the IQM reaches each threshold; a replication that never does counts as infinite.

    `curves` are seeds x tasks x steps, NaN where a run has no value; usually of one task. A step counts with the runs
    that have a value there. There is no interval where only one run has a value at the step that is found.
    """
    present = np.isfinite(curves)
    available = present.any(axis=-1)
    value = np.full((len(steps), 1), np.nan)
    replicates = np.full((len(steps), bootstrap.replications), np.nan)
    resampled = np.zeros(len(steps), bool)
    for here, columns in _by_available_runs(curves):
        value[columns] = _iqm_at_each_step(curves[..., columns], ones(here))
        resampled[columns] = many = can_resample(here)
        replicates[columns] = (
            _iqm_at_each_step(curves[..., columns], bootstrap.counts(here)) if many else value[columns]
        )
    highest = np.where(present, curves, -np.inf).max(axis=-1)[available]
    tails = [(1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2]
    found = []
    for threshold in thresholds:
        # An order statistic, not a mean of two: halfway between a step and never is nothing.
        low, high = np.quantile(_first(replicates >= threshold, steps), tails, method="inverted_cdf")
        point = np.asarray(_first(value >= threshold, steps)[0])
        there = resampled[steps == point] if np.isfinite(point) else resampled
        bounds = (low, high) if there.any() else (np.nan, np.nan)
        reached = int((highest >= threshold).sum())
        found.append(TimeToThreshold(threshold, Estimate(point, *map(np.asarray, bounds)), reached, len(highest)))
    return found


def _first(reached: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Of (steps, replications): the step of the first True, infinite without one."""
    return np.where(reached.any(axis=0), steps[reached.argmax(axis=0)], np.inf)
