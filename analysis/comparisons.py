"""Variants compared with their baseline: paired differences, simultaneous intervals, probability of improvement."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.false_claims import MOST_FALSE_CLAIMS, false_claims
from analysis.statistics import (
    AGGREGATES,
    ROUNDING,
    Aggregate,
    Bootstrap,
    Counts,
    Estimate,
    check_scores,
    few_seeds_widening,
    ones,
)
from scorer_core.support.text import count

Result = Literal["better", "worse", "not significant", "too few seeds"]


@dataclass(frozen=True)
class Comparison:
    """A variant against its baseline, over the seeds that both have."""

    variant: str
    baseline: str
    tasks: int
    seeds: int  # of the task with the fewest seeds that both have
    pairs: int  # runs of each side on all tasks
    difference: Estimate  # of the aggregates, variant minus baseline; its interval is not adjusted
    simultaneous: Estimate  # the same difference with an interval adjusted for all comparisons (max-t)
    improvement: Estimate  # probability that a run of the variant scores higher than one of the baseline

    @property
    def result(self) -> Result:
        """The claim that the simultaneous interval supports.

        "too few seeds" if simulated experiments of this size made too many false claims, or if there were none.
        """
        rate = false_claims(self.tasks, self.seeds)
        if rate is None or rate > MOST_FALSE_CLAIMS:
            return "too few seeds"
        if self.simultaneous.above(0):
            return "better"
        return "worse" if self.simultaneous.below(0) else "not significant"

    @property
    def no_claim(self) -> str:
        """Why there is no claim, for readers; empty if there is one."""
        if self.result != "too few seeds":
            return ""
        rate = false_claims(self.tasks, self.seeds)
        why = "not simulated" if rate is None else f"{100 * rate:.2g} % false claims in simulation"
        return f"too few seeds ({count(self.seeds, 'seed')}: {why})"


def compare(
    scores: Mapping[str, np.ndarray],
    baseline_of: Mapping[str, str | None],
    bootstrap: Bootstrap,
    aggregate: Aggregate = "iqm",
) -> list[Comparison]:
    """Compare every variant that has a baseline with it, all on the same bootstrap repetitions.

    The simultaneous intervals (see `simultaneous_half_widths`) are always widened for few seeds, as in the simulations
    that measured the rates of false claims.

    Args:
        scores: matrices `num_runs x num_tasks` of one shape, NaN where a run is missing; a row is one seed.
        baseline_of: each variant's baseline; None for a variant that is not compared.
        bootstrap: how intervals are made.
        aggregate: the statistic of the difference.
    """
    statistic = AGGREGATES[aggregate]
    found = []
    for variant, baseline in baseline_of.items():
        if baseline is None or variant not in scores or baseline not in scores:
            continue
        common = np.isfinite(scores[variant]) & np.isfinite(scores[baseline])
        if not common.any(0).all():
            continue
        ours, theirs = (np.where(common, scores[name], np.nan) for name in (variant, baseline))
        value = (statistic(ours, ones(common)) - statistic(theirs, ones(common)))[0]
        counts = bootstrap.counts(common)
        found.append((variant, baseline, common, value, statistic(ours, counts) - statistic(theirs, counts)))
    if not found:
        return []

    values = np.array([value for _, _, _, value, _ in found])
    halves = np.array([few_seeds_widening(common, bootstrap.level) for _, _, common, _, _ in found])
    valid = np.isfinite(halves)  # a comparison with a single run on some task has no interval, so it makes no claim
    if valid.any():
        replicates = np.stack([replicates for *_, replicates in found])[valid]
        halves[valid] *= simultaneous_half_widths(values[valid], replicates, bootstrap.level)
    return [
        Comparison(
            variant=variant,
            baseline=baseline,
            tasks=common.shape[1],
            seeds=int(common.sum(0).min()),
            pairs=int(common.sum()),
            difference=bootstrap.interval(value, replicates, common),
            simultaneous=Estimate(np.asarray(value), value - half, value + half),
            improvement=improvement(scores[variant], scores[baseline], bootstrap),
        )
        for (variant, baseline, common, value, replicates), half in zip(found, halves, strict=True)
    ]


def simultaneous_half_widths(values: np.ndarray, replicates: np.ndarray, level: float) -> np.ndarray:
    """Half widths of the simultaneous intervals of several differences (max-t), not yet widened for few seeds.

    No difference gets a smaller standard error than the median of all. A few runs can be close together by chance, for
    example when all runs of both variants solve the task; their bootstrap error is then far too small, and one such
    difference is enough for a false claim.

    Arguments and shapes as in `max_t_half_widths`.
    """
    errors = _standard_errors(replicates)
    return _max_t(values, replicates, np.maximum(errors, np.median(errors, axis=-1, keepdims=True)), level)


def max_t_half_widths(values: np.ndarray, replicates: np.ndarray, level: float) -> np.ndarray:
    """Half widths of simultaneous intervals: with probability `level` all of them cover their quantity (max-t).

    Each bootstrap repetition has one largest standardized deviation of all quantities. The half width of a quantity is
    the quantile of these, times the standard error of the quantity.

    Args:
        values: point estimates, `... x num_quantities`.
        replicates: bootstrap replicates, `... x num_quantities x num_reps`.
        level: the confidence level.

    Returns:
        `... x num_quantities`.
    """
    return _max_t(values, replicates, _standard_errors(replicates), level)


def _standard_errors(replicates: np.ndarray) -> np.ndarray:
    """Standard deviation over repetitions; exactly 0 where the replicates are equal up to rounding."""
    errors = replicates.std(axis=-1)
    return np.where(errors > ROUNDING * np.abs(replicates).max(axis=-1), errors, 0.0)


def _max_t(values: np.ndarray, replicates: np.ndarray, errors: np.ndarray, level: float) -> np.ndarray:
    deviations = np.abs(replicates - values[..., None])
    defined = (errors > 0)[..., None] & np.ones(deviations.shape, bool)
    standardized = np.divide(deviations, errors[..., None], out=np.zeros_like(deviations), where=defined)
    return np.quantile(standardized.max(axis=-2), level, axis=-1)[..., None] * errors


def improvement(ours: np.ndarray, theirs: np.ndarray, bootstrap: Bootstrap) -> Estimate:
    """Probability that a run of ours scores higher than one of theirs on the same task, averaged over tasks.

    A tie counts one half. Both sides are resampled independently, as in rliable: every run is compared with every run,
    not seed with seed.

    Args:
        ours: `num_runs x num_tasks`, NaN where a run is missing.
        theirs: the same tasks; the number of runs may differ.
        bootstrap: how intervals are made.

    Raises:
        ValueError: see `estimate`.
    """
    available, other = check_scores(ours), check_scores(theirs)

    def probability(counts: Counts, other_counts: Counts) -> np.ndarray:
        per_task = []
        for task in range(ours.shape[1]):
            mine, yours = available[:, task], other[:, task]
            if not (mine.any() and yours.any()):
                continue
            gaps = ours[mine, task][:, None] - theirs[yours, task][None, :]
            # Halves and small whole numbers: every sum of them is exact in single precision.
            wins = ((gaps > 0) + 0.5 * (gaps == 0)).astype(np.float32)
            our_draws = counts[mine, task].astype(np.float32)
            their_draws = other_counts[yours, task].astype(np.float32)
            won = np.empty(counts.shape[-1])
            for start in range(0, len(won), 4096):
                block = slice(start, start + 4096)
                won[block] = np.einsum("rb,rb->b", wins @ their_draws[:, block], our_draws[:, block])
            per_task.append(won / wins.size)
        return np.mean(per_task, axis=0)

    value = probability(ones(available), ones(other))[0]
    replicates = probability(bootstrap.counts(available), bootstrap.counts(other, stream=1))
    fewest = np.minimum(available.sum(0), other.sum(0))  # by task; 0 if the task is not used
    interval = bootstrap.interval(value, replicates, np.arange(fewest.max())[:, None] < fewest)
    return Estimate(interval.value, np.clip(interval.low, 0, 1), np.clip(interval.high, 0, 1))
