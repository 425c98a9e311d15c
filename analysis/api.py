"""The results of a sweep in Python, for notebooks: `from analysis import api as scorer`.

The same functions make the report, so the numbers and figures here are those of the report. docs/api.md explains them
by example. Scores are matrices as in rliable: by variant, `num_runs x num_tasks`, a row per seed, NaN for a missing
run. In the examples, `results` is what `load` returns, and `summary` is what `summarize` returns.
"""

import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis import statistics
from analysis import summary as summaries
from analysis.caveats import caveats as _caveats
from analysis.choices import Scheme, Score
from analysis.load import REPORTED, ReportError, Results, load_results
from analysis.statistics import Bootstrap, complete_rows
from analysis.summary import Settings, Summary

if TYPE_CHECKING:  # these imports take seconds; `__getattr__` makes them when a function is used
    from analysis.frames import compare, curves, intervals, iqm_curves, performance_profiles, runs
    from analysis.panels import (
        add_legend,
        plot_along,
        plot_curves,
        plot_differences,
        plot_heat_map,
        plot_improvements,
        plot_intervals,
        plot_metric,
        plot_profiles,
    )

__all__ = [
    "Bootstrap",
    "ReportError",
    "Settings",
    "add_legend",
    "baselines",
    "caveats",
    "compare",
    "curves",
    "intervals",
    "iqm",
    "iqm_curves",
    "load",
    "performance_profiles",
    "plot_along",
    "plot_curves",
    "plot_differences",
    "plot_heat_map",
    "plot_improvements",
    "plot_intervals",
    "plot_metric",
    "plot_profiles",
    "runs",
    "scores",
    "style",
    "summarize",
]

FRAMES = {"compare", "curves", "intervals", "iqm_curves", "performance_profiles", "runs"}


def __getattr__(name: str) -> Any:
    """A function of analysis/frames.py, which imports pandas, or of analysis/panels.py, which imports matplotlib."""
    if name in __all__:
        return getattr(importlib.import_module("analysis.frames" if name in FRAMES else "analysis.panels"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


# --- runs ---


def load(folder: str | Path, metrics: Sequence[str] = REPORTED, overrides: Sequence[str] = ()) -> Results:
    """All planned runs of a sweep, with the scores and curves of the finished ones.

    Args:
        folder: outputs/<sweep>.
        metrics: columns of the records to load; scores are computed from the first. Default: those of the report.
        overrides: `key=value` changes of the definition, such as `baseline=scorer` or `seeds=5`.

    Raises:
        ReportError: if there is no readable definition, or no such metric. Records that cannot be read are no errors;
            they are listed in `results.problems`.

    Example:
        >>> scorer.load("outputs/my-sweep")
        <Results of my-sweep: 120 runs (120 done)>
    """
    return load_results(Path(folder), metrics, overrides)


# --- numbers ---


def scores(
    results: Results, score: Score = "final", normalize: Scheme | None = None, complete: bool = False
) -> dict[str, np.ndarray]:
    """By variant, the scores of its runs: `num_runs x num_tasks`, rows as `results.seeds`, columns as `results.tasks`.

    A variant without a finished run on some task is left out, as in the report's numbers over all tasks.

    Args:
        results: of `load`.
        score: the mean return over the last 10 % of training (final), the highest logged return (best), or auc.
        normalize: as `scorer report --normalize`; default: by references for several tasks, returns for one task.
        complete: only the seeds with a score on every task. rliable needs this: it has no missing runs.

    Example:
        >>> matrices = scorer.scores(results)
        >>> matrices["dqn gamma=0.99"].shape  # num_runs x num_tasks
        (10, 2)
    """
    found = summaries.matrices(results, score, normalize).normalized
    return {name: complete_rows(matrix) if complete else matrix for name, matrix in found.items()}


def baselines(results: Results) -> dict[str, str | None]:
    """The variant that each variant is compared with; None for a baseline.

    Example:
        >>> scorer.baselines(results)["scorer ratio=5 gamma=0.9"]
        'dqn gamma=0.9'
    """
    return {name: results.baseline_of(name) for name in results.variants}


def iqm(scores: np.ndarray) -> float:
    """The interquartile mean over all runs of all tasks.

    Args:
        scores: `num_runs x num_tasks`, NaN for a missing run.

    Raises:
        ValueError: if `scores` is not a matrix with at least one run, or a score is infinite.

    Example:
        >>> scorer.iqm(np.array([[0.0], [1.0], [2.0], [100.0]]))  # num_runs x num_tasks = 4 x 1
        1.5
    """
    return float(statistics.iqm(scores, statistics.ones(statistics.check_scores(scores)))[0])


# --- all numbers of the report ---


def summarize(results: Results, settings: Settings | None = None, variants: Sequence[str] | None = None) -> Summary:
    """All numbers of the report, which the `plot_` functions draw.

    Args:
        results: of `load`.
        settings: score, normalization and bootstrap; the default is the report's.
        variants: those that figures draw; default: all, or 24 of them. Comparisons are always of all variants.

    Returns:
        `aggregates`, `per_task`, `comparisons`, `profiles`, `curves`, `times` and the score matrices (`num_runs x
        num_tasks`) that they are made of.

    Raises:
        ReportError: if a variant has no score, or `settings` have a threshold of an unknown task.

    Example:
        >>> settings = scorer.Settings(score="auc", reps=2000)
        >>> summary = scorer.summarize(results, settings, variants=["dqn gamma=0.99", "scorer ratio=5 gamma=0.99"])
        >>> list(summary.profiles)
        ['dqn gamma=0.99', 'scorer ratio=5 gamma=0.99']
    """
    return summaries.summarize(results, settings, variants)


def caveats(summary: Summary) -> list[str]:
    """What weakens these results, in the sentences of the report: missing runs, few seeds, mixed code versions, ...

    Example:
        >>> scorer.caveats(summary)
        []
    """
    return [caveat.text for caveat in _caveats(summary)]


def style() -> AbstractContextManager[None]:
    """A context in which figures have the look of the report.

    Example:
        >>> with scorer.style():
        ...     figure, ax = plt.subplots()
        ...     _ = scorer.plot_profiles(summary, ax)
    """
    from analysis.style import styled

    return styled()
