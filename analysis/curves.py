"""Statistics of learning curves: IQM at every step, time to a threshold. The bootstrap resamples whole runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.comparisons import max_t_half_widths
from analysis.statistics import Bootstrap, Counts, Estimate, can_resample, few_seeds_widening, iqm_of_each, ones


@dataclass(frozen=True)
class TimeToThreshold:
    """Environment steps until the IQM over runs first reaches a threshold; infinite if it never does."""

    threshold: float
    steps: Estimate
    reached: int  # runs whose own curve reaches it
    runs: int


def curve_iqm(curves: np.ndarray, bootstrap: Bootstrap, simultaneous: bool = False) -> Estimate:
    """IQM at each step with its confidence band.

    At each step the IQM is over the runs that have a value there, and the interval resamples these runs. The IQM is NaN
    where a task has no run with a value.

    Args:
        curves: `num_runs x num_tasks x num_steps`, NaN where a run has no value.
        bootstrap: how intervals are made.
        simultaneous: the band covers the curve at all steps at once (max-t), not pointwise.

    Returns:
        Arrays of num_steps.

    Raises:
        ValueError: if there is no run.
    """
    if not np.isfinite(curves).any():
        raise ValueError("curves: there is no run")
    found = Estimate(*np.full((3, curves.shape[-1]), np.nan))
    joint: list[tuple[np.ndarray, np.ndarray, float]] = []  # of each group: its steps, its replicates, its widening
    for available, columns in _by_available_runs(curves):
        here = curves[..., columns]
        value = _iqm_at_each_step(here, ones(available))[:, 0]
        if not can_resample(available):
            _put(found, columns, bootstrap.interval(value, np.array([]), available))
            continue
        replicates = _iqm_at_each_step(here, bootstrap.counts(available))
        if simultaneous:
            found.value[columns] = value
            widening = few_seeds_widening(available, bootstrap.level) if bootstrap.few_seeds_correction else 1.0
            joint.append((columns, replicates, widening))
        else:
            _put(found, columns, bootstrap.interval(value, replicates, available))
    if joint:
        columns = np.concatenate([group[0] for group in joint])
        widening = np.concatenate([np.full(len(group[0]), group[2]) for group in joint])
        replicates = np.concatenate([group[1] for group in joint])
        half = widening * max_t_half_widths(found.value[columns], replicates, bootstrap.level)
        found.low[columns], found.high[columns] = found.value[columns] - half, found.value[columns] + half
    return found


def _by_available_runs(curves: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Groups of steps with the same runs: (bool `num_runs x num_tasks`, indices of the steps); each task has a run."""
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
    """`num_steps x num_reps`, for steps with the same runs."""
    present = np.isfinite(curves[..., 0])
    return iqm_of_each(curves[present].astype(float), counts[present])


def times_to_thresholds(
    curves: np.ndarray, steps: np.ndarray, thresholds: Sequence[float], bootstrap: Bootstrap
) -> list[TimeToThreshold]:
    """The first step at which the IQM reaches each threshold; infinite in a bootstrap repetition that never does.

    At each step the IQM is over the runs that have a value there. There is no interval if only one run has a value at
    the step that is found.

    Args:
        curves: `num_runs x num_tasks x num_steps`, NaN where a run has no value; usually of one task.
        steps: environment steps, num_steps.
        thresholds: returns.
        bootstrap: how intervals are made.
    """
    present = np.isfinite(curves)
    available = present.any(axis=-1)
    value = np.full((len(steps), 1), np.nan)
    replicates = np.full((len(steps), bootstrap.reps), np.nan)
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
        # An order statistic: the mean of a step and infinity has no meaning.
        low, high = np.quantile(_first(replicates >= threshold, steps), tails, method="inverted_cdf")
        point = np.asarray(_first(value >= threshold, steps)[0])
        there = resampled[steps == point] if np.isfinite(point) else resampled
        bounds = (low, high) if there.any() else (np.nan, np.nan)
        reached = int((highest >= threshold).sum())
        found.append(TimeToThreshold(threshold, Estimate(point, *map(np.asarray, bounds)), reached, len(highest)))
    return found


def _first(reached: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """By repetition: the step of the first True in `num_steps x num_reps`; infinite without one."""
    return np.where(reached.any(axis=0), steps[reached.argmax(axis=0)], np.inf)
