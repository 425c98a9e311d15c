"""Variants against their baseline: paired differences, probability of improvement, and control of the whole family."""

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

Verdict = Literal["better", "worse", "not separated", "hint only"]


@dataclass(frozen=True)
class Comparison:
    """A variant minus its baseline, over the seeds that both have."""

    variant: str
    baseline: str
    tasks: int
    seeds: int  # that both have, on the task with the fewest
    pairs: int  # runs on either side, all tasks together
    difference: Estimate  # of the aggregates; its interval stands alone
    family: Estimate  # the same with an interval that holds for all comparisons together
    improvement: Estimate  # probability that a run of the variant scores higher than one of the baseline

    @property
    def result(self) -> Verdict:
        """By the interval that holds for the whole family.

        "hint only" where simulated experiments of this size made too many false claims, or were not made.
        """
        rate = false_claims(self.tasks, self.seeds)
        if rate is None or rate > MOST_FALSE_CLAIMS:
            return "hint only"
        if self.family.above(0):
            return "better"
        return "worse" if self.family.below(0) else "not separated"

    @property
    def hint(self) -> str:
        """Why there is no verdict, for readers; empty where there is one."""
        if self.result != "hint only":
            return ""
        rate = false_claims(self.tasks, self.seeds)
        found = "too few to simulate" if rate is None else f"{100 * rate:.2g} % false claims in simulation"
        return f"hint only ({self.seeds} seed{'' if self.seeds == 1 else 's'}: {found})"


def compare(
    scores: Mapping[str, np.ndarray],
    baseline_of: Mapping[str, str | None],
    bootstrap: Bootstrap,
    aggregate: Aggregate = "iqm",
) -> list[Comparison]:
    """Every variant that has a baseline against it, all on the same replications.

    The family's intervals (see `family_half_widths`) are always widened for few seeds: the rates of false claims were
    measured so.

    `scores` are matrices seeds x tasks of one shape, rows of equal seeds, NaN where a run is missing. `baseline_of`
    names each variant's baseline, None for what is not compared.
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
    simultaneous = np.isfinite(
        halves
    )  # a comparison with a single run on some task has no interval, so it makes no claim
    if simultaneous.any():
        replicates = np.stack([found_[4] for found_ in found])
        halves[simultaneous] *= simultaneous_half_widths(
            values[simultaneous], replicates[simultaneous], bootstrap.level
        )
    return [
        Comparison(
            variant=variant,
            baseline=baseline,
            tasks=common.shape[1],
            seeds=int(common.sum(0).min()),
            pairs=int(common.sum()),
            difference=bootstrap.interval(value, replicates, common),
            family=Estimate(np.asarray(value), value - half, value + half),
            improvement=improvement(scores[variant], scores[baseline], bootstrap),
        )
        for (variant, baseline, common, value, replicates), half in zip(found, halves, strict=True)
    ]


def simultaneous_half_widths(values: np.ndarray, replicates: np.ndarray, level: float) -> np.ndarray:
    """Max-t half widths of the intervals of a family of differences, before they are widened for few seeds.

    No difference gets a smaller standard error than the family's median. A few runs can be close together by chance,
    for example when all runs of both variants solve the task; their bootstrap error is then far too small, and one such
    difference is enough for a false claim.

    Shapes as in `simultaneous`.
    """
    errors = _standard_errors(replicates)
    return _max_t(values, replicates, np.maximum(errors, np.median(errors, axis=-1, keepdims=True)), level)


def simultaneous(values: np.ndarray, replicates: np.ndarray, level: float) -> np.ndarray:
    """Half widths of intervals that hold together with probability `level` (max-t).

    In each replication the largest standardised deviation of any quantity is noted. Its quantile, times a quantity's
    standard error, is the half width of this quantity.

    `values` are the point estimates (..., quantities), `replicates` are (..., quantities, replications).
    """
    return _max_t(values, replicates, _standard_errors(replicates), level)


def _standard_errors(replicates: np.ndarray) -> np.ndarray:
    """Over the replications; exactly 0 where these are equal up to rounding."""
    errors = replicates.std(axis=-1)
    return np.where(errors > ROUNDING * np.abs(replicates).max(axis=-1), errors, 0.0)


def _max_t(values: np.ndarray, replicates: np.ndarray, errors: np.ndarray, level: float) -> np.ndarray:
    deviations = np.abs(replicates - values[..., None])
    there = (errors > 0)[..., None] & np.ones(deviations.shape, bool)
    standardised = np.divide(deviations, errors[..., None], out=np.zeros_like(deviations), where=there)
    return np.quantile(standardised.max(axis=-2), level, axis=-1)[..., None] * errors


def improvement(ours: np.ndarray, theirs: np.ndarray, bootstrap: Bootstrap) -> Estimate:
    """Probability that a run of ours scores above one of theirs on the same task, ties half, averaged over tasks.

    Both sides are resampled independently, as rliable does: it compares any run with any run, not seed with seed.

    Matrices are seeds x tasks with the same tasks, NaN where a run is missing; the numbers of seeds may differ.
    """
    available, other = check_scores(ours), check_scores(theirs)

    def probability(counts: Counts, other_counts: Counts) -> np.ndarray:
        per_task = []
        for task in range(ours.shape[1]):
            here, there = available[:, task], other[:, task]
            if not (here.any() and there.any()):
                continue
            gaps = ours[here, task][:, None] - theirs[there, task][None, :]
            # Halves and small whole numbers: single precision holds every sum of them exactly.
            wins = ((gaps > 0) + 0.5 * (gaps == 0)).astype(np.float32)
            mine, yours = (c[rows, task].astype(np.float32) for c, rows in ((counts, here), (other_counts, there)))
            share = np.empty(counts.shape[-1])
            for start in range(0, len(share), 4096):
                block = slice(start, start + 4096)
                share[block] = np.einsum("rb,rb->b", wins @ yours[:, block], mine[:, block])
            per_task.append(share / wins.size)
        return np.mean(per_task, axis=0)

    value = probability(ones(available), ones(other))[0]
    replicates = probability(bootstrap.counts(available), bootstrap.counts(other, stream=1))
    fewest = np.minimum(available.sum(0), other.sum(0))  # by task; 0 where the task is not used
    interval = bootstrap.interval(value, replicates, np.arange(fewest.max())[:, None] < fewest)
    return Estimate(interval.value, np.clip(interval.low, 0, 1), np.clip(interval.high, 0, 1))
