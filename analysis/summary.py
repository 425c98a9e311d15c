"""All numbers of a report, computed once. Figures, tables and the page only show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from analysis.choices import CURVE_REPS, REPS
from analysis.comparisons import Comparison, compare
from analysis.curves import TimeToThreshold, curve_iqm, times_to_thresholds
from analysis.load import ReportError, Results, Score
from analysis.normalize import Normalization, Scheme, normalization
from analysis.statistics import (
    AGGREGATE_NAMES,
    Aggregate,
    Bootstrap,
    Estimate,
    estimate,
    profile,
)
from scorer_core.references import random_return
from scorer_core.support.text import count

LEGIBLE = 24  # variants that are legible in one figure
# Returns whose times the SCORER paper gives, Tables 15 to 18.
PAPER_THRESHOLDS: dict[str, tuple[float, ...]] = {
    "minatar/breakout": (17, 20, 25),
    "minatar/asterix": (35, 40),
    "minatar/space_invaders": (75, 100, 110),
    "minatar/freeway": (30, 40, 50),
    "gymnax/breakout": (17, 20, 25),
    "gymnax/asterix": (35, 40),
    "gymnax/space_invaders": (75, 100, 110),
    "gymnax/freeway": (30, 40, 50),
}

AgainstRandom = Literal["above", "below", "not significant", "no interval", "unknown"]


@dataclass(frozen=True)
class Settings:
    """The choices of a user. The captions name all of them."""

    score: Score = "final"
    scheme: Scheme | None = None  # None: `references` for several tasks, `none` (raw returns) for one
    bootstrap_seed: int = 0
    reps: int = REPS
    curve_reps: int = CURVE_REPS
    few_seeds_correction: bool = True
    simultaneous_bands: bool = False
    profiles_of_averages: bool = False
    thresholds: Mapping[str, Sequence[float]] | None = None  # by task; default: see `_time_thresholds`


@dataclass(frozen=True)
class Summary:
    """Score matrices are `num_runs x num_tasks`, a row per seed, NaN where a run is missing."""

    results: Results
    settings: Settings
    normalization: Normalization
    raw: dict[str, np.ndarray]  # by variant with a run: scores in units of return
    normalized: dict[str, np.ndarray]  # by variant with a run on every task: normalized scores
    aggregates: dict[str, dict[Aggregate, Estimate]]  # of `normalized`, over all tasks
    per_task: dict[tuple[str, str], Estimate]  # (variant, task) -> IQM of returns
    random: dict[str, float | None]  # task -> return of a random policy
    against_random: dict[tuple[str, str], AgainstRandom]  # (variant, task)
    comparisons: list[Comparison]  # with the baselines, of `normalized`
    thresholds: np.ndarray  # of the performance profiles, num_thresholds
    profiles: dict[str, Estimate]
    drawn: list[str]  # variants in figures: all, or a legible number of them
    curves: dict[tuple[str, str | None], Estimate]  # of `drawn`: (variant, task) returns; (variant, None) normalized
    times: dict[tuple[str, str], list[TimeToThreshold]]  # of `drawn`: (variant, task)

    def __repr__(self) -> str:
        return f"<Summary of {self.results.sweep.name}: {', '.join(self.raw)}>"

    @property
    def tasks(self) -> list[str]:
        return self.results.tasks

    def runs_of(self, variant: str) -> np.ndarray:
        """Number of runs with a score, by task: num_tasks."""
        return np.isfinite(self.raw[variant]).sum(0)

    def task_label(self, task: str) -> str:
        """`minatar/space_invaders` -> `space invaders`.

        The whole name for gymnax, whose games have other rules than MinAtar's, and if two tasks would get one label.
        """
        suite, _, short = task.rpartition("/")
        unique = sum(other.rpartition("/")[2] == short for other in {*self.tasks, task}) == 1
        return short.replace("_", " ") if unique and suite != "gymnax" else task

    @property
    def seeds_text(self) -> str:
        """`10 seeds`, or `3 to 10 seeds`."""
        counts = sorted({int(n) for variant in self.raw for n in self.runs_of(variant)})
        return count(counts[0], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"

    @property
    def comparison_of(self) -> dict[str, Comparison]:
        return {comparison.variant: comparison for comparison in self.comparisons}


class Matrices(NamedTuple):
    """The scores of a sweep, `num_runs x num_tasks`, and its curves, `num_runs x num_tasks x num_steps`, by variant."""

    raw: dict[str, np.ndarray]  # of variants with a run
    normalized: dict[str, np.ndarray]  # of variants with a run on every task
    normalization: Normalization
    curves: dict[str, np.ndarray]  # of variants in `raw` with a value


def matrices(results: Results, score: Score = "final", scheme: Scheme | None = None) -> Matrices:
    """Scores as returns and normalized by `scheme`; by default, scores are normalized if there are several tasks."""
    tasks = results.tasks
    raw = {name: matrix for name, matrix in results.scores(score).items() if np.isfinite(matrix).any()}
    curves = {name: array for name, array in results.curves().items() if name in raw and np.isfinite(array).any()}
    scheme = scheme or ("references" if len(tasks) > 1 else "none")
    scale = normalization(scheme, tasks, _baseline_curves(results, curves), _action_set(results))
    whole = {name: matrix for name, matrix in raw.items() if np.isfinite(matrix).any(axis=0).all()}
    return Matrices(raw, {name: scale(matrix, tasks) for name, matrix in whole.items()}, scale, curves)


def summarize(results: Results, settings: Settings | None = None, variants: Sequence[str] | None = None) -> Summary:
    """All statistics of a sweep. A variant without a score is left out; a caveat names it (caveats.py).

    Args:
        results: the runs of the sweep.
        settings: scores, normalization and bootstrap.
        variants: those in figures; default: all, or a legible number of them. Comparisons are always of all variants.

    Raises:
        ReportError: if `settings` have a threshold of a task that the sweep does not have, or a variant has no score.
    """
    settings = settings or Settings()
    tasks = results.tasks
    bootstrap = Bootstrap(settings.reps, settings.bootstrap_seed, few_seeds_correction=settings.few_seeds_correction)
    raw, normalized, scale, curves = matrices(results, settings.score, settings.scheme)
    for name in variants or ():
        if name not in raw:
            raise ReportError(f"{name}: not a variant with a score; choose from: {', '.join(raw)}")
    random = {task: random_return(task, _action_set(results)) for task in tasks}
    per_task = {
        (name, task): estimate(matrix[:, [column]], bootstrap)
        for name, matrix in raw.items()
        for column, task in enumerate(tasks)
        if np.isfinite(matrix[:, column]).any()
    }
    fast = Bootstrap(settings.curve_reps, settings.bootstrap_seed, few_seeds_correction=settings.few_seeds_correction)
    thresholds = profile_thresholds(normalized)
    aggregates = _aggregates(normalized, bootstrap)
    drawn = _drawn(results, raw, aggregates) if variants is None else list(variants)
    seen = {name: curves[name] for name in drawn if name in curves}
    return Summary(
        results=results,
        settings=settings,
        normalization=scale,
        raw=raw,
        normalized=normalized,
        aggregates=aggregates,
        per_task=per_task,
        random=random,
        against_random={key: _against_random(found, random[key[1]]) for key, found in per_task.items()},
        comparisons=compare(normalized, {name: results.baseline_of(name) for name in normalized}, bootstrap),
        thresholds=thresholds,
        profiles={
            name: profile(normalized[name], thresholds, fast, settings.profiles_of_averages)
            for name in drawn
            if name in normalized
        },
        drawn=drawn,
        curves=_curves(results, seen, scale, fast, settings.simultaneous_bands),
        times=_times(results, seen, _time_thresholds(results, settings, curves, random), fast),
    )


def shown_aggregates(summary: Summary) -> list[Aggregate]:
    """All aggregates of rliable; the optimality gap only for normalized scores, because it needs a meaning of 1."""
    raw = summary.normalization.scheme == "none"
    return [aggregate for aggregate in AGGREGATE_NAMES if not (raw and aggregate == "optimality_gap")]


def _aggregates(normalized: Mapping[str, np.ndarray], bootstrap: Bootstrap) -> dict[str, dict[Aggregate, Estimate]]:
    return {
        name: {aggregate: estimate(matrix, bootstrap, aggregate) for aggregate in AGGREGATE_NAMES}
        for name, matrix in normalized.items()
    }


def _drawn(
    results: Results, raw: Mapping[str, np.ndarray], aggregates: Mapping[str, dict[Aggregate, Estimate]]
) -> list[str]:
    """Every variant with a run; if these are more than LEGIBLE, the baselines and the highest."""
    if len(raw) <= LEGIBLE:
        return list(raw)
    height = {name: float(found["iqm"].value) for name, found in aggregates.items()}
    baselines = [name for name in results.baselines if name in raw]
    others = sorted((name for name in raw if name not in baselines), key=lambda name: -height.get(name, -np.inf))
    kept = {*baselines[:LEGIBLE], *others[: max(0, LEGIBLE - len(baselines))]}
    return [name for name in raw if name in kept]


def _time_thresholds(
    results: Results, settings: Settings, curves: Mapping[str, np.ndarray], random: Mapping[str, float | None]
) -> dict[str, list[float]]:
    """By task: the user's thresholds; by default those of the paper that some run reaches.

    On a task without such a threshold: 50, 75 and 100 % of the way from a random policy's return to the highest point
    of the baseline's mean curve.
    """
    if unknown := sorted(set(settings.thresholds or ()) - set(results.tasks)):
        raise ReportError(
            f"--threshold {unknown[0]}=...: not a task of this sweep; choose from: {', '.join(results.tasks)}"
        )
    found: dict[str, list[float]] = {}
    baseline = _baseline_curves(results, curves)
    for column, task in enumerate(results.tasks):
        if settings.thresholds is not None:
            found[task] = list(settings.thresholds.get(task, []))
            continue
        highest = np.fmax.reduce([np.fmax.reduce(array[:, column], axis=None) for array in curves.values()] or [np.nan])
        paper = [level for level in PAPER_THRESHOLDS.get(task, ()) if level <= highest]
        if paper:
            found[task] = paper
        elif task in baseline:
            zero = random[task] if random[task] is not None else baseline[task].min()
            found[task] = [float(zero + fraction * (baseline[task].max() - zero)) for fraction in (0.5, 0.75, 1.0)]
    return found


def _times(
    results: Results,
    curves: Mapping[str, np.ndarray],
    thresholds: Mapping[str, Sequence[float]],
    bootstrap: Bootstrap,
) -> dict[tuple[str, str], list[TimeToThreshold]]:
    found = {}
    for name, array in curves.items():
        for column, task in enumerate(results.tasks):
            if task in thresholds and (name, task) in results.logged:
                own = results.logged[name, task]
                one_task = array[:, [column]][..., own]
                found[name, task] = times_to_thresholds(one_task, results.steps[own], thresholds[task], bootstrap)
    return found


def _curves(
    results: Results, curves: Mapping[str, np.ndarray], scale: Normalization, bootstrap: Bootstrap, simultaneous: bool
) -> dict[tuple[str, str | None], Estimate]:
    """Learning curves at `results.steps`; NaN where the variant logged nothing or a task has no run with a value."""
    found: dict[tuple[str, str | None], Estimate] = {}
    for name, array in curves.items():
        logged = {task: results.logged[name, task] for task in results.tasks if (name, task) in results.logged}
        for task, own in logged.items():
            column = results.tasks.index(task)
            found[name, task] = _curve(array[:, [column]], own, bootstrap, simultaneous)
        if len(logged) == len(results.tasks):
            own = np.any(list(logged.values()), axis=0)
            joined = scale(array, results.tasks)
            if np.isfinite(joined[..., own]).any(axis=0).all(axis=0).any():
                found[name, None] = _curve(joined, own, bootstrap, simultaneous)
    return found


def _curve(curves: np.ndarray, own: np.ndarray, bootstrap: Bootstrap, simultaneous: bool) -> Estimate:
    """`curve_iqm` of the steps in `own`, NaN at all others."""
    found = Estimate(*np.full((3, len(own)), np.nan))
    for whole, part in zip(found, curve_iqm(curves[..., own], bootstrap, simultaneous), strict=True):
        whole[own] = part
    return found


def _against_random(found: Estimate, random: float | None) -> AgainstRandom:
    if random is None:
        return "unknown"
    if np.isnan(found.low):
        return "no interval"
    if found.above(random):
        return "above"
    return "below" if found.below(random) else "not significant"


def _baseline_curves(results: Results, curves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The mean learning curve of the baseline, by task; of the first variant in a sweep without a baseline.

    Only steps at which the most runs have a value: means over different runs are not comparable.
    """
    points = [name for name in (results.baselines or results.variants) if name in curves]
    if not points:
        return {}
    found = {}
    for column, task in enumerate(results.tasks):
        if (points[0], task) in results.logged:
            runs = curves[points[0]][:, column][:, results.logged[points[0], task]]
            available = np.isfinite(runs).sum(axis=0)
            found[task] = np.nanmean(runs[:, available == available.max()], axis=0)
    return found


def _action_set(results: Results) -> str:
    sets = {run.config.action_set for run in results.runs if run.config and run.task.startswith("minatar/")}
    return "full" if sets == {"full"} else "minimal"


def profile_thresholds(normalized: Mapping[str, np.ndarray]) -> np.ndarray:
    """101 thresholds over the range of all scores: every profile falls from 1 to 0 between them."""
    if not normalized:
        return np.linspace(0, 1, 101)
    scores = np.concatenate([matrix[np.isfinite(matrix)] for matrix in normalized.values()])
    low, high = min(0.0, scores.min()), scores.max()
    return np.linspace(low, high + 0.02 * (high - low or 1), 101)
