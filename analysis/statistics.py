"""Point estimates and bootstrap intervals of scores: `num_runs x num_tasks`, a row per seed, NaN for a missing run.

The estimates are rliable's (Agarwal et al., NeurIPS 2021). The resampling is ours: a bootstrap repetition is how often
each run was drawn, `counts[seed, task, rep]`, drawn within each task. A run is drawn with its entire curve, so the same
counts serve every statistic, every step of a curve and every variant (seeds stay paired). Most statistics are then a
matrix product with the counts.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import scipy.special

from analysis.choices import REPS

LEVEL = 0.95
ROUNDING = 1e-9  # relative; two bounds, or two runs, that differ by less are equal

Aggregate = Literal["iqm", "mean", "median", "optimality_gap"]
AGGREGATE_NAMES: dict[Aggregate, str] = {
    "iqm": "IQM",
    "mean": "Mean",
    "median": "Median",
    "optimality_gap": "Optimality gap",
}
Counts = np.ndarray  # uint8, `num_runs x num_tasks x num_reps`


class Estimate(NamedTuple):
    """A point estimate and its interval; numbers, or arrays of one shape. NaN bounds where there is no interval."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def has_width(self) -> np.ndarray:
        """False without bounds, and where both bounds are equal up to rounding.

        The bounds are equal when all runs are equal. Then the data do not show how much runs vary, so the interval
        supports no claim.
        """
        return self.high - self.low > ROUNDING * np.maximum(np.abs(self.low), np.abs(self.high))

    def above(self, level: float) -> np.ndarray:
        """Whether the whole interval is above `level`; False for an interval without width."""
        return self.has_width & (self.low > level)

    def below(self, level: float) -> np.ndarray:
        """Whether the whole interval is below `level`; False for an interval without width."""
        return self.has_width & (self.high < level)

    def separate(self, other: "Estimate") -> bool:
        """Whether the intervals do not overlap; False if one of them has no width."""
        return bool(other.has_width and (self.above(float(other.high)) or self.below(float(other.low))))


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made. Equal settings give equal numbers, in any order of computation."""

    reps: int = REPS
    seed: int = 0
    level: float = LEVEL
    few_seeds_correction: bool = True
    _drawn: dict[tuple[int, int, bytes], Counts] = field(default_factory=dict, repr=False, compare=False)

    def counts(self, available: np.ndarray, stream: int = 0) -> Counts:
        """How often each run is drawn: within each task, as many draws as the task has runs.

        Args:
            available: bool, `num_runs x num_tasks`. Variants share the draws of a task on which they have equal seeds.
            stream: another number gives independent draws of the same runs.

        Returns:
            `num_runs x num_tasks x num_reps`.
        """
        return np.stack([self._task_counts(stream, task, column) for task, column in enumerate(available.T)], axis=1)

    def _task_counts(self, stream: int, task: int, available: np.ndarray) -> Counts:
        key = stream, task, available.tobytes()
        if key not in self._drawn:
            if sum(counts.nbytes for counts in self._drawn.values()) > 2**29:
                self._drawn.clear()
            digest = hashlib.sha256(repr((self.seed, self.reps, key)).encode()).digest()
            rng = np.random.default_rng(np.frombuffer(digest, np.uint32))
            self._drawn[key] = _draw(rng, available, self.reps)
        return self._drawn[key]

    def interval(self, value: np.ndarray | float, replicates: np.ndarray, available: np.ndarray) -> Estimate:
        """The percentile interval of `replicates` (`... x num_reps`) around `value` (`...`).

        With few seeds percentile intervals are too narrow. The correction scales both sides by sqrt(n / (n - 1)) and by
        Student's t over the normal quantile. If a task has a single run, there is no interval: the bounds are NaN.
        """
        value = np.asarray(value, float)
        if not can_resample(available):
            return Estimate(value, np.full(value.shape, np.nan), np.full(value.shape, np.nan))
        tails = np.array([(1 - self.level) / 2, (1 + self.level) / 2])
        low, high = np.quantile(replicates, tails, axis=-1)
        widening = few_seeds_widening(available, self.level) if self.few_seeds_correction else 1.0
        return Estimate(value, value - widening * (value - low), value + widening * (high - value))


def can_resample(available: np.ndarray) -> bool:
    """Whether every task with a run has at least two; `available` is bool, `num_runs x num_tasks`.

    The resamples of a task with one run are all equal. Such a task would add nothing to the variance, and the interval
    of any statistic that uses it would be too narrow.
    """
    runs = available.sum(0)
    return bool(runs.any() and (runs != 1).all())


def few_seeds_widening(available: np.ndarray, level: float = LEVEL) -> float:
    """The factor that widens a percentile interval of few runs; NaN if a task has a single run.

    sqrt(n / (n - 1)) times Student's t over the normal quantile, with num_tasks x (n - 1) degrees of freedom. It tends
    to 1 for many runs. Tasks without a run do not count. `available` is bool, `num_runs x num_tasks`.
    """
    if not can_resample(available):
        return float("nan")
    runs = available.sum(0)
    runs = runs[runs > 0]
    n, degrees = runs.mean(), (runs - 1).sum()
    quantile = (1 + level) / 2
    return float(np.sqrt(n / (n - 1)) * scipy.special.stdtrit(degrees, quantile) / scipy.special.ndtri(quantile))


def _draw(rng: np.random.Generator, available: np.ndarray, reps: int) -> Counts:
    """`num_runs x num_reps`. Every count fits a uint8: 256 of n draws of one of n runs have p < 1e-500."""
    counts = np.zeros((len(available), reps), np.uint8)
    seeds = np.flatnonzero(available)
    block = np.arange(min(reps, 8192))  # small enough for the cache
    drawn = np.empty((len(seeds), len(block)), np.uint8)
    for start in range(0, reps if len(seeds) else 0, len(block)):
        drawn[:] = 0
        for choice in rng.integers(0, len(seeds), (len(seeds), len(block)), np.int32):
            drawn.reshape(-1)[choice * len(block) + block] += 1
        end = min(start + len(block), reps)
        counts[seeds, start:end] = drawn[:, : end - start]
    return counts


# --- statistics of resampled runs: scores `num_runs x num_tasks`, counts -> num_reps ---


def ones(available: np.ndarray) -> Counts:
    """The counts of the original data: every available run once, one repetition."""
    return available[..., None].astype(np.uint8)


def iqm(scores: np.ndarray, counts: Counts) -> np.ndarray:
    """Interquartile mean over all runs of all tasks: a quarter of them, rounded down, is cut at each end. num_reps."""
    present = np.isfinite(scores)
    return iqm_of_each(scores[present][:, None], counts[present])[0]


def iqm_of_each(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """IQM of each column of `values` (`num_runs x num_columns`) in each repetition of `counts` (`num_runs x num_reps`).

    Returns:
        `num_columns x num_reps`, NaN without a run.
    """
    runs, columns = values.shape
    reps = counts.shape[1]
    found = np.full((columns, reps), np.nan)
    at_once = max(1, 2**16 // reps)  # columns whose arrays fit into the cache
    for start in range(0, columns if runs else 0, at_once):
        found[start : start + at_once] = _iqm_block(values[:, start : start + at_once], counts)
    return found


def _iqm_block(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """In order of increasing scores, `seen` counts the draws so far; the draws between the cuts are averaged.

    The sum over kept draws is a sum by parts, over the gaps between neighboring runs.
    """
    total, columns = values.shape
    order = np.argsort(values, axis=0, kind="stable")
    values = np.take_along_axis(values, order, axis=0)
    gaps = np.diff(values, axis=0)[..., None]
    cut = int(0.25 * total)
    seen = np.zeros((columns, counts.shape[1]), np.uint16 if total < 2**16 else np.uint32)
    kept, weighted = np.empty_like(seen), np.empty(seen.shape)
    sums = np.repeat((values[-1] * (total - cut) - values[0] * cut)[:, None], counts.shape[1], axis=1)
    for rows, gap in zip(order[:-1], gaps, strict=True):
        seen += counts[rows]
        np.maximum(seen, cut, out=kept)
        np.minimum(kept, total - cut, out=kept)
        sums -= np.multiply(kept, gap, out=weighted)
    return sums / (total - 2 * cut)


def task_means(scores: np.ndarray, counts: Counts) -> np.ndarray:
    """Mean over runs: `num_tasks x num_reps`, NaN for a task without runs."""
    present = np.isfinite(scores)
    filled = np.where(present, scores, 0.0)
    rows = []
    for task in range(scores.shape[1]):
        runs = present[:, task].sum()
        total = _weighted_sum(filled[:, task], counts[:, task])
        rows.append(total / runs if runs else np.full(counts.shape[-1], np.nan))
    return np.stack(rows)


def _weighted_sum(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Product of values (`... x num_runs`) and counts (`num_runs x num_reps`), in blocks to save memory."""
    out = np.empty((*values.shape[:-1], counts.shape[-1]))
    for start in range(0, counts.shape[-1], 4096):
        here = slice(start, start + 4096)
        out[..., here] = values @ counts[:, here].astype(float)
    return out


def mean(scores: np.ndarray, counts: Counts) -> np.ndarray:
    """Mean of the task means: num_reps."""
    return np.nanmean(task_means(scores, counts), axis=0)


def median(scores: np.ndarray, counts: Counts) -> np.ndarray:
    """Median of the task means: num_reps."""
    return np.nanmedian(task_means(scores, counts), axis=0)


def optimality_gap(scores: np.ndarray, counts: Counts) -> np.ndarray:
    """Mean distance of all runs below a score of 1; scores above 1 count as 1. Lower is better. num_reps."""
    present = np.isfinite(scores)
    return 1 - _weighted_sum(np.minimum(scores[present], 1), counts[present]) / present.sum()


AGGREGATES: dict[Aggregate, Callable[[np.ndarray, Counts], np.ndarray]] = {
    "iqm": iqm,
    "mean": mean,
    "median": median,
    "optimality_gap": optimality_gap,
}


def estimate(scores: np.ndarray, bootstrap: Bootstrap, aggregate: Aggregate = "iqm") -> Estimate:
    """An aggregate of scores with its interval.

    Args:
        scores: `num_runs x num_tasks`, NaN where a run is missing.
        bootstrap: how the interval is made.
        aggregate: IQM, mean, median or optimality gap.

    Raises:
        ValueError: if `scores` is not a matrix with at least one run, or if a score is infinite.
    """
    available = check_scores(scores)
    statistic = AGGREGATES[aggregate]
    value = statistic(scores, ones(available))[0]
    if not can_resample(available):
        return bootstrap.interval(value, np.array([]), available)
    return bootstrap.interval(value, statistic(scores, bootstrap.counts(available)), available)


def check_scores(scores: np.ndarray) -> np.ndarray:
    """Which runs have a score: bool, `num_runs x num_tasks`.

    Raises:
        ValueError: see `estimate`.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores: expected a matrix num_runs x num_tasks, not an array of shape {scores.shape}")
    if np.isinf(scores).any():
        raise ValueError("scores: a value is infinite; use NaN for a run without a score")
    available = ~np.isnan(scores)
    if not available.any():
        raise ValueError("scores: there is no run")
    return available


def complete_rows(scores: np.ndarray) -> np.ndarray:
    """The rows of `scores` (`num_runs x num_tasks`) with a score on every task: rliable has no missing runs."""
    return scores[np.isfinite(scores).all(axis=1)]


def tolerance_content(runs: int, confidence: float = 0.95) -> float:
    """The smallest fraction of all possible runs between the lowest and the highest of `runs` observed runs.

    It is at least this with probability `confidence`, for any distribution (Wilks' tolerance interval).
    """
    return float(scipy.special.betaincinv(runs - 1, 2, 1 - confidence))


# --- performance profiles ---


def profile(scores: np.ndarray, thresholds: np.ndarray, bootstrap: Bootstrap, of_averages: bool = False) -> Estimate:
    """Fraction of runs with score > tau, for each tau in `thresholds`; the intervals are pointwise.

    With `of_averages` it is the fraction of tasks whose mean score is > tau.

    Args:
        scores: `num_runs x num_tasks`, NaN where a run is missing.
        thresholds: num_thresholds.
        bootstrap: how intervals are made.
        of_averages: use task means instead of runs.

    Returns:
        Arrays of num_thresholds.

    Raises:
        ValueError: see `estimate`.
    """
    available = check_scores(scores)

    def fractions(counts: Counts) -> np.ndarray:
        if of_averages:
            means = task_means(scores, counts)
            means = means[~np.isnan(means).any(1)]
            return np.mean(means > thresholds[:, None, None], axis=1)
        above = scores[available] > thresholds[:, None]
        return _weighted_sum(above.astype(float), counts[available]) / available.sum()

    value = fractions(ones(available))[:, 0]
    low_high = bootstrap.interval(value, fractions(bootstrap.counts(available)), available)
    return Estimate(value, np.clip(low_high.low, 0, 1), np.clip(low_high.high, 0, 1))
