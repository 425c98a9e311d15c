"""rliable's numbers to the last bit at the same numpy seed, dozens of times faster.

rliable draws from numpy's global generator, one replication after another, and calls a slow statistic on each. Here the
same stream is drawn in blocks from a private generator, and all replications are computed at once to rounding error. An
interval's end depends on two neighbouring order statistics, so only replications within rounding error of these are
computed again with rliable's own function.

`seed` stands for `numpy.random.seed(seed)` before one call of the rliable function named in each docstring.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rliable import metrics

from analysis.choices import CURVE_REPLICATIONS, REPLICATIONS
from analysis.statistics import LEVEL, Aggregate

Points = dict[str, np.ndarray]
Intervals = dict[str, np.ndarray]  # 2 x statistics: lower ends, upper ends

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
    replications: int = REPLICATIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[Points, Intervals]:
    """Rliable's `get_interval_estimates` of these aggregates of matrices runs x tasks.

    Raises:
        ValueError: if scores are no matrix, or hold a NaN or an infinite value.
    """
    stream = np.random.RandomState(seed)
    points, intervals = {}, {}
    for name, matrix in scores.items():
        matrix = _checked(name, matrix, 2)
        points[name] = np.array([EXACT[aggregate](matrix) for aggregate in aggregates])
        drawn = [block.astype(_smallest(len(matrix))) for block in _blocks(stream, matrix.shape, replications)]
        nearly = [[_nearly(aggregate, resampled) for aggregate in aggregates] for resampled in _take(matrix, drawn)]
        indices = np.concatenate(drawn)
        ends = [
            _ends(aggregate, np.concatenate([block[i] for block in nearly]), matrix, indices, level)
            for i, aggregate in enumerate(aggregates)
        ]
        intervals[name] = np.array(ends).T
    return points, intervals


def efficiency_curves(
    curves: Mapping[str, np.ndarray], replications: int = CURVE_REPLICATIONS, seed: int = 0, level: float = LEVEL
) -> tuple[Points, Intervals]:
    """`get_interval_estimates` of the IQM at every step of arrays runs x tasks x steps.

    rliable resamples each step on its own; do not take anything across steps, such as an area, from these.
    """
    stream = np.random.RandomState(seed)
    points, intervals = {}, {}
    for name, array in curves.items():
        array = _checked(name, array, 3)
        frames = array.shape[2]
        points[name] = np.array([EXACT["iqm"](array[..., frame]) for frame in range(frames)])
        drawn = [block.astype(_smallest(len(array))) for block in _blocks(stream, array.shape, replications)]
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
    replications: int = CURVE_REPLICATIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[Points, Intervals]:
    """Rliable's `create_performance_profile` of matrices runs x tasks: share of runs above each threshold."""
    stream = np.random.RandomState(seed)
    points, intervals = {}, {}
    for name, matrix in scores.items():
        matrix = _checked(name, matrix, 2)
        above = np.sort(matrix.ravel())
        points[name] = (above.size - np.searchsorted(above, thresholds, side="right")) / above.size
        # A run counts at the thresholds below its score; replications then differ only in how many fall between two.
        bins = np.searchsorted(thresholds, matrix, side="left")
        shares = []
        for block in _take(bins, _blocks(stream, matrix.shape, replications)):
            cell = block.reshape(len(block), -1) + (len(thresholds) + 1) * np.arange(len(block))[:, None]
            counts = np.bincount(cell.ravel(), minlength=len(block) * (len(thresholds) + 1)).reshape(len(block), -1)
            shares.append(counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] / matrix.size)
        intervals[name] = np.percentile(np.concatenate(shares), _percentiles(level), axis=0)
    return points, intervals


def probabilities_of_improvement(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]],
    replications: int = CURVE_REPLICATIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[Points, Intervals]:
    """`get_interval_estimates` of `rliable.metrics.probability_of_improvement` of pairs of matrices runs x tasks."""
    stream = np.random.RandomState(seed)
    points, intervals = {}, {}
    for name, (ours, theirs) in pairs.items():
        ours, theirs = _checked(name, ours, 2), _checked(name, theirs, 2)
        points[name] = np.array([metrics.probability_of_improvement(ours, theirs)])
        wins = (ours[:, None] > theirs[None]) + 0.5 * (ours[:, None] == theirs[None])
        columns = np.arange(ours.shape[1])
        shares = np.empty((replications, len(columns)))
        for replication in range(replications):  # the two sides' draws alternate in the one stream
            mine = stream.choice(len(ours), ours.shape, replace=True)
            other = stream.choice(len(theirs), theirs.shape, replace=True)
            won = wins[mine[:, None], other[None], columns].sum(axis=(0, 1))
            shares[replication] = won / (len(ours) * len(theirs))
        # A list in rliable: averaged in its order, as np.mean of an array along an axis need not be.
        replicates = np.array([np.mean(row) for row in shares])
        intervals[name] = np.percentile(replicates, _percentiles(level))[:, None]
    return points, intervals


def _checked(name: str, scores: np.ndarray, dimensions: int) -> np.ndarray:
    if scores.ndim != dimensions or not scores.size:
        raise ValueError(
            f"{name}: scores are runs x tasks{' x steps' * (dimensions == 3)}, not of shape {scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{name}: scores hold a NaN or an infinite value; rliable has no missing runs")
    return np.asarray(scores, float)


def _smallest(runs: int) -> np.dtype:
    return np.min_scalar_type(runs - 1)


def _blocks(stream: np.random.RandomState, shape: tuple[int, ...], replications: int) -> Iterator[np.ndarray]:
    """Indices of runs, (replications, *shape) in blocks: the stream does not depend on how it is cut."""
    at_once = max(1, BLOCK // int(np.prod(shape)))
    for start in range(0, replications, at_once):
        yield stream.choice(shape[0], (min(at_once, replications - start), *shape), replace=True)


def _take(matrix: np.ndarray, blocks: Iterator[np.ndarray] | Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """matrix[index, task] for each block of indices (replications, runs, tasks)."""
    flat, tasks = np.ascontiguousarray(matrix).ravel(), matrix.shape[1]
    for block in blocks:
        places = block.astype(np.intp)
        places *= tasks
        places += np.arange(tasks)
        yield np.take(flat, places, mode="clip")


def _nearly(aggregate: Aggregate, resampled: np.ndarray) -> np.ndarray:
    """The aggregate of each replication (replications, runs, tasks), right to rounding error."""
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
    """Both percentiles as rliable has them, from replications known to rounding error."""
    tolerance = 1e-10 * max(np.abs(matrix).max(), 1.0)  # far above what rounding does to a mean of such scores
    values = nearly.copy()
    ordered = np.sort(nearly)
    close = np.zeros(len(nearly), bool)
    for percentile in _percentiles(level):
        place = percentile / 100 * (len(nearly) - 1)
        for order in (int(np.floor(place)), int(np.ceil(place))):
            close |= np.abs(nearly - ordered[order]) <= tolerance
    for replication in np.flatnonzero(close):
        values[replication] = EXACT[aggregate](matrix[indices[replication], np.arange(matrix.shape[1])])
    return np.percentile(values, _percentiles(level))
