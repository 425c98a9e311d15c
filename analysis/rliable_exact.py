"""rliable's numbers, bit for bit at the same numpy seed, and dozens of times faster.

rliable draws from numpy's global generator, one repetition after another, and calls a slow statistic for each. Here the
same stream is drawn in blocks from a private generator, and the statistics of all repetitions are computed at once, up
to rounding errors. An interval bound depends on two neighboring order statistics, so only repetitions within rounding
error of these are computed again with rliable's own function.

`seed` is that of `numpy.random.seed(seed)` before one call of the rliable function named in each docstring.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rliable import metrics

from analysis.choices import CURVE_REPS, REPS
from analysis.statistics import LEVEL, Aggregate

Points = dict[str, np.ndarray]
Intervals = dict[str, np.ndarray]  # `2 x num_statistics`: lower bounds, upper bounds

EXACT: dict[Aggregate, Callable[..., Any]] = {
    "iqm": metrics.aggregate_iqm,
    "mean": metrics.aggregate_mean,
    "median": metrics.aggregate_median,
    "optimality_gap": metrics.aggregate_optimality_gap,
}
BLOCK = 1 << 20  # draws at a time


def interval_estimates(
    scores: Mapping[str, np.ndarray],
    aggregates: Sequence[Aggregate] = ("iqm",),
    reps: int = REPS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[Points, Intervals]:
    """Rliable's `get_interval_estimates` of these aggregates of score matrices `num_runs x num_tasks`.

    Raises:
        ValueError: if scores are not a matrix, or if a score is NaN or infinite.
    """
    stream = np.random.RandomState(seed)
    points, intervals = {}, {}
    for name, matrix in scores.items():
        matrix = _checked(name, matrix, 2)
        points[name] = np.array([EXACT[aggregate](matrix) for aggregate in aggregates])
        drawn = [block.astype(_smallest(len(matrix))) for block in _blocks(stream, matrix.shape, reps)]
        nearly = [[_nearly(aggregate, resampled) for aggregate in aggregates] for resampled in _take(matrix, drawn)]
        indices = np.concatenate(drawn)
        ends = [
            _ends(aggregate, np.concatenate([block[i] for block in nearly]), matrix, indices, level)
            for i, aggregate in enumerate(aggregates)
        ]
        intervals[name] = np.array(ends).T
    return points, intervals


def efficiency_curves(
    curves: Mapping[str, np.ndarray], reps: int = CURVE_REPS, seed: int = 0, level: float = LEVEL
) -> tuple[Points, Intervals]:
    """Rliable's `get_interval_estimates` of the IQM at every step of curves `num_runs x num_tasks x num_steps`.

    rliable resamples each step separately. Do not combine steps of these results, for example to an area.

    Raises:
        ValueError: as in `interval_estimates`.
    """
    stream = np.random.RandomState(seed)
    points, intervals = {}, {}
    for name, array in curves.items():
        array = _checked(name, array, 3)
        frames = array.shape[2]
        points[name] = np.array([EXACT["iqm"](array[..., frame]) for frame in range(frames)])
        drawn = [block.astype(_smallest(len(array))) for block in _blocks(stream, array.shape, reps)]
        indices = np.concatenate(drawn)
        ends = []
        for frame in range(frames):
            now, drawn_now = array[..., frame], indices[..., frame]
            nearly = _nearly("iqm", next(_take(now, [drawn_now])))
            ends.append(_ends("iqm", nearly, now, drawn_now, level))
        intervals[name] = np.array(ends).T
    return points, intervals


def performance_profiles(
    scores: Mapping[str, np.ndarray],
    thresholds: np.ndarray,
    reps: int = CURVE_REPS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[Points, Intervals]:
    """Rliable's `create_performance_profile` of `num_runs x num_tasks` scores: fraction of runs with score > tau.

    Raises:
        ValueError: as in `interval_estimates`.
    """
    stream = np.random.RandomState(seed)
    points, intervals = {}, {}
    for name, matrix in scores.items():
        matrix = _checked(name, matrix, 2)
        above = np.sort(matrix.ravel())
        points[name] = (above.size - np.searchsorted(above, thresholds, side="right")) / above.size
        # Repetitions differ only in how many runs fall between two thresholds.
        bins = np.searchsorted(thresholds, matrix, side="left")
        fractions = []
        for block in _take(bins, _blocks(stream, matrix.shape, reps)):
            cell = block.reshape(len(block), -1) + (len(thresholds) + 1) * np.arange(len(block))[:, None]
            counts = np.bincount(cell.ravel(), minlength=len(block) * (len(thresholds) + 1)).reshape(len(block), -1)
            fractions.append(counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] / matrix.size)
        intervals[name] = np.percentile(np.concatenate(fractions), _percentiles(level), axis=0)
    return points, intervals


def probabilities_of_improvement(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]],
    reps: int = CURVE_REPS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[Points, Intervals]:
    """Rliable's `get_interval_estimates` of its `probability_of_improvement`, of pairs `num_runs x num_tasks`.

    Raises:
        ValueError: as in `interval_estimates`.
    """
    stream = np.random.RandomState(seed)
    points, intervals = {}, {}
    for name, (ours, theirs) in pairs.items():
        ours, theirs = _checked(name, ours, 2), _checked(name, theirs, 2)
        points[name] = np.array([metrics.probability_of_improvement(ours, theirs)])
        wins = (ours[:, None] > theirs[None]) + 0.5 * (ours[:, None] == theirs[None])
        columns = np.arange(ours.shape[1])
        fractions = np.empty((reps, len(columns)))
        for rep in range(reps):  # the draws of both sides alternate in one stream
            mine = stream.choice(len(ours), ours.shape, replace=True)
            other = stream.choice(len(theirs), theirs.shape, replace=True)
            won = wins[mine[:, None], other[None], columns].sum(axis=(0, 1))
            fractions[rep] = won / (len(ours) * len(theirs))
        # rliable averages a list; np.mean of an array along an axis may add in another order.
        replicates = np.array([np.mean(row) for row in fractions])
        intervals[name] = np.percentile(replicates, _percentiles(level))[:, None]
    return points, intervals


def _checked(name: str, scores: np.ndarray, dimensions: int) -> np.ndarray:
    if scores.ndim != dimensions or not scores.size:
        raise ValueError(
            f"{name}: expected num_runs x num_tasks{' x num_steps' * (dimensions == 3)}, not shape {scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{name}: a score is NaN or infinite; rliable does not support missing runs")
    return np.asarray(scores, float)


def _smallest(runs: int) -> np.dtype:
    return np.min_scalar_type(runs - 1)


def _blocks(stream: np.random.RandomState, shape: tuple[int, ...], reps: int) -> Iterator[np.ndarray]:
    """Indices of runs, `num_reps x shape`, in blocks; the stream does not depend on the size of the blocks."""
    at_once = max(1, BLOCK // int(np.prod(shape)))
    for start in range(0, reps, at_once):
        yield stream.choice(shape[0], (min(at_once, reps - start), *shape), replace=True)


def _take(matrix: np.ndarray, blocks: Iterator[np.ndarray] | Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """matrix[index, task] for each block of indices `num_reps x num_runs x num_tasks`."""
    flat, tasks = np.ascontiguousarray(matrix).ravel(), matrix.shape[1]
    for block in blocks:
        places = block.astype(np.intp)
        places *= tasks
        places += np.arange(tasks)
        yield np.take(flat, places, mode="clip")


def _nearly(aggregate: Aggregate, resampled: np.ndarray) -> np.ndarray:
    """The aggregate of each repetition, up to rounding errors; `resampled` is `num_reps x num_runs x num_tasks`."""
    if aggregate == "iqm":
        flat = np.sort(resampled.reshape(len(resampled), -1), axis=1)
        cut = int(0.25 * flat.shape[1])
        return flat[:, cut : flat.shape[1] - cut].mean(axis=1)
    if aggregate == "optimality_gap":
        return 1 - np.minimum(resampled, 1).mean(axis=(1, 2))
    means = resampled.mean(axis=1)
    return means.mean(axis=1) if aggregate == "mean" else np.median(means, axis=1)


def _percentiles(level: float) -> list[float]:
    tail = (1.0 - level) / 2
    return [100 * tail, 100 * (1.0 - tail)]


def _ends(
    aggregate: Aggregate, nearly: np.ndarray, matrix: np.ndarray, indices: np.ndarray, level: float
) -> np.ndarray:
    """Both percentiles, exactly as in rliable, from statistics with rounding errors."""
    tolerance = 1e-10 * max(np.abs(matrix).max(), 1.0)  # far above the rounding error of a mean of such scores
    values = nearly.copy()
    ordered = np.sort(nearly)
    close = np.zeros(len(nearly), bool)
    for percentile in _percentiles(level):
        place = percentile / 100 * (len(nearly) - 1)
        for order in (int(np.floor(place)), int(np.ceil(place))):
            close |= np.abs(nearly - ordered[order]) <= tolerance
    for rep in np.flatnonzero(close):
        values[rep] = EXACT[aggregate](matrix[indices[rep], np.arange(matrix.shape[1])])
    return np.percentile(values, _percentiles(level))
