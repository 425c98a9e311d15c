"""Variants against their baseline: paired differences, probability of improvement, and control of the whole family."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.statistics import (
    AGGREGATES,
    Aggregate,
    Bootstrap,
    Counts,
    Estimate,
    check_scores,
    few_seeds_widening,
    ones,
)

Verdict = Literal["better", "worse", "not separated"]


@dataclass(frozen=True)
class Comparison:
    """A variant minus its baseline, over the seeds that both have."""

    variant: str
    baseline: str
    pairs: int  # runs on either side, all tasks together
    difference: Estimate  # of the aggregates; its interval stands alone
    family: Estimate  # the same with an interval that holds for all comparisons together
    improvement: Estimate  # probability that a run of the variant scores higher than one of the baseline

    @property
    def verdict(self) -> Verdict:
        """By the interval that holds for the whole family."""
        if self.family.low > 0:
            return "better"
        return "worse" if self.family.high < 0 else "not separated"


def compare(
    scores: Mapping[str, np.ndarray],
    baseline_of: Mapping[str, str | None],
    bootstrap: Bootstrap,
    aggregate: Aggregate = "iqm",
) -> list[Comparison]:
    """Every variant that has a baseline against it, all on the same replications.

    The family's intervals are max-t: in each replication the largest standardised deviation of any difference is
    noted, and its quantile, times a difference's standard error, is that difference's half width.

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
    bounds = simultaneous(values, np.stack([found_[4] for found_ in found]), bootstrap.level)
    comparisons = []
    for i, (variant, baseline, common, value, replicates) in enumerate(found):
        widening = few_seeds_widening(common, bootstrap.level) if bootstrap.few_seeds_correction else 1.0
        half = widening * bounds[i] if common.sum(0).max() > 1 else float("nan")
        comparisons.append(
            Comparison(
                variant=variant,
                baseline=baseline,
                pairs=int(common.sum()),
                difference=bootstrap.interval(value, replicates, common),
                family=Estimate(np.asarray(value), value - half, value + half),
                improvement=improvement(scores[variant], scores[baseline], bootstrap),
            )
        )
    return comparisons


def simultaneous(values: np.ndarray, replicates: np.ndarray, level: float) -> np.ndarray:
    """Half widths of intervals that hold together with probability `level` (max-t).

    `values` are the point estimates (quantities,), `replicates` are (quantities, replications).
    """
    errors = replicates.std(axis=1)
    deviations = np.abs(replicates - values[:, None])
    standardised = np.divide(deviations, errors[:, None], out=np.zeros_like(deviations), where=errors[:, None] > 0)
    return np.quantile(standardised.max(axis=0), level) * errors


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
    fewer = min(available, other, key=lambda runs: runs.sum())
    interval = bootstrap.interval(value, replicates, fewer)
    return Estimate(interval.value, np.clip(interval.low, 0, 1), np.clip(interval.high, 0, 1))
