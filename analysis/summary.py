"""Every number of a report, computed once; figures, tables and the page only show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.choices import CURVE_REPLICATIONS, REPLICATIONS
from analysis.comparisons import Comparison, compare
from analysis.curves import TimeToThreshold, curve_iqm, times_to_thresholds
from analysis.load import SCORE_MEANINGS, ReportError, Results, Score
from analysis.normalise import Normalisation, Scheme, normalisation
from analysis.statistics import (
    AGGREGATE_NAMES,
    Aggregate,
    Bootstrap,
    Estimate,
    estimate,
    profile,
)
from scorer_core.references import random_return

LEGIBLE = 24  # variants that one figure can hold
# Levels whose times the paper's Tables 15 to 18 give.
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

Standing = Literal["above", "below", "not separated from", "without interval against", "unknown"]


@dataclass(frozen=True)
class Settings:
    """What a report is made with; all of it stands in the captions."""

    score: Score = "final"
    scheme: Scheme | None = None  # None: references where several tasks are joined, raw returns for one
    seed: int = 0
    replications: int = REPLICATIONS
    curve_replications: int = CURVE_REPLICATIONS
    few_seeds_correction: bool = True
    simultaneous_bands: bool = False
    profiles_of_averages: bool = False
    thresholds: Mapping[str, Sequence[float]] | None = None  # by task; None: the paper's, else the baseline's levels


@dataclass(frozen=True)
class Summary:
    results: Results
    settings: Settings
    normalisation: Normalisation
    raw: dict[str, np.ndarray]  # seeds x tasks, of every variant with a run
    normalised: dict[str, np.ndarray]  # the same on the common scale, of variants with a run on every task
    aggregates: dict[str, dict[Aggregate, Estimate]]  # of `normalised`
    per_task: dict[tuple[str, str], Estimate]  # (variant, task) -> IQM of raw scores
    random: dict[str, float | None]  # by task
    standing: dict[tuple[str, str], Standing]  # (variant, task) -> its interval against a random policy's return
    comparisons: list[Comparison]  # of `normalised`
    thresholds: np.ndarray  # of the profiles
    profiles: dict[str, Estimate]
    drawn: list[str]  # the variants that figures show: all, unless they are too many to tell apart
    curves: dict[tuple[str, str | None], Estimate]  # of `drawn`: (variant, task) raw; (variant, None) normalised
    times: dict[tuple[str, str], list[TimeToThreshold]]  # of `drawn`: (variant, task)

    @property
    def tasks(self) -> list[str]:
        return self.results.tasks

    def runs_of(self, variant: str) -> np.ndarray:
        """Scored runs, by task."""
        return np.isfinite(self.raw[variant]).sum(0)

    def task_label(self, task: str) -> str:
        """`minatar/space_invaders` -> `space invaders`; the whole task if another one would get the same label."""
        short = task.rpartition("/")[2]
        alone = sum(other.rpartition("/")[2] == short for other in {*self.tasks, task}) == 1
        return short.replace("_", " ") if alone else task

    @property
    def runs_text(self) -> str:
        counts = sorted({int(n) for variant in self.raw for n in self.runs_of(variant)})
        return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"

    @property
    def comparison_of(self) -> dict[str, Comparison]:
        return {comparison.variant: comparison for comparison in self.comparisons}


def summarise(results: Results, settings: Settings | None = None) -> Summary:
    """All statistics of a sweep. Variants without a finished run are left out here; `honesty` says so."""
    settings = settings or Settings()
    tasks = results.tasks
    bootstrap = Bootstrap(settings.replications, settings.seed, few_seeds_correction=settings.few_seeds_correction)
    raw = {name: matrix for name, matrix in results.scores(settings.score).items() if np.isfinite(matrix).any()}
    curves = {name: array for name, array in results.curves().items() if name in raw and np.isfinite(array).any()}
    scheme = settings.scheme or ("references" if len(tasks) > 1 else "none")
    scale = normalisation(scheme, tasks, _baseline_curves(results, curves), _action_set(results))
    whole = {name: matrix for name, matrix in raw.items() if np.isfinite(matrix).any(axis=0).all()}
    normalised = {name: scale(matrix, tasks) for name, matrix in whole.items()}
    random = {task: random_return(task, _action_set(results)) for task in tasks}
    per_task = {
        (name, task): estimate(matrix[:, [column]], bootstrap)
        for name, matrix in raw.items()
        for column, task in enumerate(tasks)
        if np.isfinite(matrix[:, column]).any()
    }
    fast = Bootstrap(settings.curve_replications, settings.seed, few_seeds_correction=settings.few_seeds_correction)
    thresholds = _thresholds(normalised)
    drawn = _drawn(results, raw, aggregates := _aggregates(normalised, bootstrap))
    seen = {name: curves[name] for name in drawn if name in curves}
    return Summary(
        results=results,
        settings=settings,
        normalisation=scale,
        raw=raw,
        normalised=normalised,
        aggregates=aggregates,
        per_task=per_task,
        random=random,
        standing={key: _standing(found, random[key[1]]) for key, found in per_task.items()},
        comparisons=compare(normalised, {name: results.baseline_of(name) for name in normalised}, bootstrap),
        thresholds=thresholds,
        profiles={
            name: profile(normalised[name], thresholds, fast, settings.profiles_of_averages)
            for name in drawn
            if name in normalised
        },
        drawn=drawn,
        curves=_curves(results, seen, scale, fast, settings.simultaneous_bands),
        times=_times(results, seen, _time_thresholds(results, settings, curves, random), fast),
    )


def _aggregates(normalised: Mapping[str, np.ndarray], bootstrap: Bootstrap) -> dict[str, dict[Aggregate, Estimate]]:
    return {
        name: {aggregate: estimate(matrix, bootstrap, aggregate) for aggregate in AGGREGATE_NAMES}
        for name, matrix in normalised.items()
    }


def _drawn(
    results: Results, raw: Mapping[str, np.ndarray], aggregates: Mapping[str, dict[Aggregate, Estimate]]
) -> list[str]:
    """Every variant with a run; of more than a figure can hold, the baselines and the highest."""
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
    """By task: those asked for; else the paper's that any run reaches; else half, three quarters and all of the way
    from a random policy's return to the highest point of the baseline's mean curve.
    """
    if unknown := sorted(set(settings.thresholds or ()) - set(results.tasks)):
        raise ReportError(
            f"--threshold {unknown[0]}=...: no task of this sweep; choose from: {', '.join(results.tasks)}"
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
            found[task] = [float(zero + share * (baseline[task].max() - zero)) for share in (0.5, 0.75, 1.0)]
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
    results: Results, curves: Mapping[str, np.ndarray], scale: Normalisation, bootstrap: Bootstrap, together: bool
) -> dict[tuple[str, str | None], Estimate]:
    """On `results.steps`, NaN where the variant logged nothing or a task has no run with a value."""
    found: dict[tuple[str, str | None], Estimate] = {}
    for name, array in curves.items():
        logged = {task: results.logged[name, task] for task in results.tasks if (name, task) in results.logged}
        for task, own in logged.items():
            column = results.tasks.index(task)
            found[name, task] = _curve(array[:, [column]], own, bootstrap, together)
        if len(logged) == len(results.tasks):
            own = np.any(list(logged.values()), axis=0)
            joined = scale(array, results.tasks)
            if np.isfinite(joined[..., own]).any(axis=0).all(axis=0).any():
                found[name, None] = _curve(joined, own, bootstrap, together)
    return found


def _curve(curves: np.ndarray, own: np.ndarray, bootstrap: Bootstrap, together: bool) -> Estimate:
    """`curve_iqm` of the steps in `own`, NaN at all others."""
    found = Estimate(*np.full((3, len(own)), np.nan))
    for whole, part in zip(found, curve_iqm(curves[..., own], bootstrap, together), strict=True):
        whole[own] = part
    return found


def _standing(found: Estimate, random: float | None) -> Standing:
    if random is None:
        return "unknown"
    if np.isnan(found.low):
        return "without interval against"
    if found.above(random):
        return "above"
    return "below" if found.below(random) else "not separated from"


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


def _thresholds(normalised: Mapping[str, np.ndarray]) -> np.ndarray:
    """101 thresholds over the range of all scores, so that every profile falls from 1 to 0 in sight."""
    if not normalised:
        return np.linspace(0, 1, 101)
    scores = np.concatenate([matrix[np.isfinite(matrix)] for matrix in normalised.values()])
    low, high = min(0.0, scores.min()), scores.max()
    return np.linspace(low, high + 0.02 * (high - low or 1), 101)


def answer(summary: Summary) -> str:
    """One sentence, made from the numbers: does any variant differ from its baseline?"""
    whole = summary.aggregates
    if not whole:
        return "No variant has a finished run on every task yet, so there is nothing to compare."
    unit = "normalised IQM" if summary.normalisation.scheme != "none" else "IQM"
    if not summary.comparisons:
        best = max(whole, key=lambda name: float(whole[name]["iqm"].value))
        baselines = [name for name in summary.results.baselines if name not in whole]
        if len(summary.results.variants) == 1:
            alone = "the only variant"
        elif len(whole) == 1:
            alone = "the only variant with a score on every task"
        elif baselines:
            alone = f"the highest; the baseline {baselines[0]} has no score on every task to compare with"
        else:
            alone = "the highest, and no variant is a baseline to compare with"
        return f"The {unit} of {best} is {format_estimate(whole[best]['iqm'])}: {alone}."
    parts = []
    for verdict in ("better", "worse"):
        found = [comparison for comparison in summary.comparisons if comparison.result == verdict]
        found.sort(key=lambda comparison: -abs(float(comparison.difference.value)))
        if found:
            rest = f" and {len(found) - 3} more" if len(found) > 3 else ""
            baselines = {comparison.baseline for comparison in found}
            against = min(baselines) if len(baselines) == 1 else "its baseline"
            sign = f"{'above' if verdict == 'better' else 'below'} {against}"
            named = ", ".join(
                f"{comparison.variant} by {format_estimate(comparison.family, absolute=True)}"
                for comparison in found[:3]
            )
            parts.append(f"{sign}: {named}{rest}")
    unsettled = [comparison.variant for comparison in summary.comparisons if comparison.result == "not separated"]
    if unsettled:
        names = ", ".join(unsettled[:3]) + (f" and {len(unsettled) - 3} more" if len(unsettled) > 3 else "")
        parts.append(f"not separated from the baseline: {names}")
    said = [f"{unit[0].upper()}{unit[1:]} {'; '.join(parts)}."] if parts else []
    hinted = [comparison for comparison in summary.comparisons if comparison.hint]
    if hinted:
        rest = f" and {len(hinted) - 3} more" if len(hinted) > 3 else ""
        differences = [f"{one.variant} minus {one.baseline} {format_estimate(one.family)}" for one in hinted[:3]]
        said.append(f"Difference of {unit}: {', '.join(differences)}{rest}.")
    return " ".join([*said, *hints(summary)])


def hints(summary: Summary) -> list[str]:
    """A sentence per reason why comparisons have no verdict; for the answer and for captions."""
    by_reason: dict[str, list[str]] = {}
    for comparison in summary.comparisons:
        if comparison.hint:
            by_reason.setdefault(comparison.hint, []).append(comparison.variant)
    return [
        f"No verdict on {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}: {reason}."
        for reason, names in by_reason.items()
    ]


def format_estimate(found: Estimate, absolute: bool = False) -> str:
    """`1.23 [1.10, 1.31]`, three significant digits of the interval's scale; without bounds if there are none."""
    value, low, high = (float(number) for number in found)
    if absolute and value < 0:
        value, low, high = -value, -high, -low
    size = max(abs(number) for number in (value, low, high) if np.isfinite(number)) if np.isfinite(value) else 1.0
    digits = max(0, 2 - int(np.floor(np.log10(size)))) if size > 0 else 2
    digits = min(digits, 4)
    if np.isnan(low):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def shown_aggregates(summary: Summary) -> list[Aggregate]:
    """All of rliable's, but the gap to a score of 1 only where 1 means something."""
    raw = summary.normalisation.scheme == "none"
    return [aggregate for aggregate in AGGREGATE_NAMES if not (raw and aggregate == "optimality_gap")]


def method(summary: Summary, replications: int) -> str:
    """How the intervals were made, for captions."""
    correction = ", widened for few seeds" if summary.settings.few_seeds_correction else ""
    return (
        f"95 % stratified bootstrap percentile intervals over whole runs{correction} "
        f"({replications:,} replications, seed {summary.settings.seed})"
    )


def score_text(summary: Summary) -> str:
    return f"Score: {SCORE_MEANINGS[summary.settings.score]}."
