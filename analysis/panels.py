"""One panel of each figure of a report, drawn on given axes: the report and notebooks draw with these functions.

Each function sets titles and labels, and returns the axes. The scores of all tasks together are normalized. Examples
are for a summary made by `analysis.api.summarize`; inside `analysis.api.style()`, they have the look of the report.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.legend import Legend

from analysis import figures
from analysis.panel_contents import (
    axes_of,
    band_of,
    chosen,
    chosen_task,
    compared_of,
    crossed_by,
    estimate_of,
    fraction_of,
    looks_of,
    measured_runs,
    title,
    unit,
)
from analysis.style import figure_text, looks
from analysis.summary import Summary


def plot_intervals(summary: Summary, ax: Axes, task: str | None = None, variants: Sequence[str] | None = None) -> Axes:
    """IQM (line) and confidence interval (bar) of each variant; dashed: a random policy.

    Args:
        summary: all numbers; a variant's scores are `num_runs x num_tasks`, or `num_runs x 1` with a `task`.
        ax: where to draw.
        task: a task, or None for all tasks together (or the only one).
        variants: default: all in `summary.drawn`.

    Example:
        >>> figure, ax = plt.subplots()
        >>> scorer.plot_intervals(summary, ax, task="minatar/breakout").get_xlabel()
        'IQM of return'
    """
    task = chosen_task(summary, task)
    found = {name: estimate_of(summary, name, task) for name in chosen(summary, variants)}
    figures.interval_estimates(found, looks_of(summary), ax, random=summary.random[task] if task else None)
    ax.set_title(figure_text(title(summary, task)))
    ax.set_xlabel(unit(summary, task))
    return ax


def plot_profiles(summary: Summary, ax: Axes, variants: Sequence[str] | None = None) -> Axes:
    """Performance profiles: the fraction of runs above each score, over all tasks, with pointwise bands.

    Args:
        summary: all numbers; the scores are the normalized matrices `num_runs x num_tasks`.
        ax: where to draw.
        variants: default: all in `summary.drawn`.

    Example:
        >>> figure, ax = plt.subplots()
        >>> scorer.plot_profiles(summary, ax).get_xlabel()
        'normalized score (tau)'
    """
    score = "return" if summary.normalization.scheme == "none" else "normalized score"
    profiles = {name: summary.profiles[name] for name in chosen(summary, variants) if name in summary.profiles}
    ylabel = f"fraction of {fraction_of(summary)}"
    return figures.performance_profiles(profiles, summary.thresholds, looks_of(summary), ax, f"{score} (tau)", ylabel)


def plot_curves(summary: Summary, ax: Axes, task: str | None = None, variants: Sequence[str] | None = None) -> Axes:
    """IQM of the return at each logged step with its confidence band; dashed: a random policy.

    Args:
        summary: all numbers; at each step, the values of a variant are `num_runs x num_tasks`.
        ax: where to draw.
        task: a task, or None for all tasks together (or the only one).
        variants: default: all in `summary.drawn`.

    Example:
        >>> figure, ax = plt.subplots()
        >>> scorer.plot_curves(summary, ax, task="minatar/asterix").get_title()
        'asterix'
    """
    task = chosen_task(summary, task)
    names = chosen(summary, variants)
    here = {name: summary.curves[name, task] for name in names if (name, task) in summary.curves}
    random = summary.random[task] if task else None
    figures.learning_curves(here, summary.results.steps, looks_of(summary), ax, random, unit(summary, task))
    ax.set_title(figure_text(title(summary, task)))
    return ax


def plot_differences(summary: Summary, ax: Axes, variants: Sequence[str] | None = None) -> Axes:
    """Difference of the IQMs from the baseline, paired by seed, with simultaneous intervals; a line marks 0.

    The intervals are adjusted for all comparisons of the summary, whichever variants are drawn.

    Args:
        summary: all numbers; the scores are the normalized matrices `num_runs x num_tasks`.
        ax: where to draw.
        variants: default: all in `summary.drawn`; those without a baseline are left out.

    Example:
        >>> figure, ax = plt.subplots()
        >>> chosen = ["scorer ratio=1 gamma=0.99", "scorer ratio=5 gamma=0.99"]
        >>> scorer.plot_differences(summary, ax, variants=chosen).get_xlabel()
        'difference of IQMs'
    """
    compared = compared_of(summary, variants)
    figures.interval_estimates({c.variant: c.simultaneous for c in compared}, looks_of(summary), ax)
    ax.axvline(0, color="#333333", linewidth=1)
    ax.set_xlabel("difference of IQMs" + (" (too few seeds)" if all(c.no_claim for c in compared) else ""))
    return ax


def plot_improvements(summary: Summary, ax: Axes, variants: Sequence[str] | None = None) -> Axes:
    """Probability that a run of a variant scores higher than one of its baseline; a line marks one half.

    Args:
        summary: all numbers; the scores are the normalized matrices `num_runs x num_tasks`.
        ax: where to draw.
        variants: default: all in `summary.drawn`; those without a baseline are left out.

    Example:
        >>> figure, ax = plt.subplots()
        >>> scorer.plot_improvements(summary, ax).get_xlabel()
        'probability of improvement'
    """
    compared = compared_of(summary, variants)
    figures.improvements({c.variant: c.improvement for c in compared}, looks_of(summary), ax)
    ax.set_xlabel("probability of improvement")
    return ax


def plot_along(summary: Summary, ax: Axes, setting: str, task: str | None = None) -> Axes:
    """IQM along the values of an axis of the sweep, one line per variant, with intervals; band: the baseline.

    Args:
        summary: all numbers; a variant's scores are `num_runs x num_tasks`, or `num_runs x 1` with a `task`.
        ax: where to draw.
        setting: an axis with at least two values.
        task: a task, or None for all tasks together (or the only one).

    Raises:
        ValueError: if the sweep has no such axis or task.

    Example:
        >>> figure, ax = plt.subplots()
        >>> scorer.plot_along(summary, ax, "ratio", task="minatar/breakout").get_xlabel()
        'ratio'
    """
    task = chosen_task(summary, task)
    if setting not in (known := axes_of(summary)):
        raise ValueError(
            f"{setting}: not an axis of this sweep; its axes with two values or more: {', '.join(known) or 'none'}"
        )
    lines = known[setting]
    band = band_of(summary, lines)
    placed = {
        line: [(value, estimate_of(summary, name, task)) for value, name in pairs] for line, pairs in lines.items()
    }
    figures.along_axis(placed, looks(list(lines), []), ax, estimate_of(summary, band, task) if band else None)
    ax.set_title(figure_text(title(summary, task)))
    ax.set_xlabel(figure_text(setting))
    ax.set_ylabel(unit(summary, task))
    return ax


def plot_heat_map(
    summary: Summary, ax: Axes, pair: tuple[str, str], task: str | None = None, variant: str | None = None
) -> Axes:
    """IQM of each pair of values on two axes, as color and number. Colors go from the lowest to the highest cell.

    Args:
        summary: all numbers; a variant's scores are `num_runs x num_tasks`, or `num_runs x 1` with a `task`.
        ax: where to draw.
        pair: two axes of which the sweep has all combinations: rows and columns.
        task: a task, or None for all tasks together (or the only one).
        variant: the key in `variants` of the definition; needed if several have this pair of axes.

    Raises:
        ValueError: if the sweep has no such pair, task or variant.

    Example:
        >>> figure, ax = plt.subplots()
        >>> scorer.plot_heat_map(summary, ax, ("ratio", "gamma"), task="minatar/breakout").get_ylabel()
        'ratio'
    """
    task = chosen_task(summary, task)
    crossed = crossed_by(summary, pair)
    families = list(dict.fromkeys(point.base_name for point in crossed))
    if not crossed:
        raise ValueError(f"{' and '.join(pair)}: this sweep has no variants on both of these axes, in this order")
    if variant is None and len(families) > 1:
        raise ValueError(f"variant: is missing; choose from: {', '.join(families)}")
    variant = families[0] if variant is None else variant
    if variant not in families:
        raise ValueError(f"{variant}: not a variant on both of these axes; choose from: {', '.join(families)}")
    every = {point: float(estimate_of(summary, point.name, task).value) for point in crossed}
    cells = {(p.point[0][1], p.point[1][1]): value for p, value in every.items() if p.base_name == variant}
    figures.heat_map(cells, ax, np.nanmin(list(every.values())), np.nanmax(list(every.values())), pair)
    ax.set_title(figure_text(f"{variant} {title(summary, task)}".strip()))
    return ax


def plot_metric(
    summary: Summary, ax: Axes, metric: str, task: str | None = None, variants: Sequence[str] | None = None
) -> Axes:
    """Median and interquartile range over runs of a logged metric during training; not a confidence interval.

    Args:
        summary: all numbers; at each step, the values of a variant are num_runs.
        ax: where to draw.
        metric: a loaded metric (`summary.results.metrics`).
        task: a task; it may be left out if the sweep has only one.
        variants: default: all in `summary.drawn`.

    Raises:
        ValueError: if the metric was not loaded, or there is no such task.

    Example:
        >>> figure, ax = plt.subplots()
        >>> scorer.plot_metric(summary, ax, "msbe", task="minatar/breakout").get_ylabel()
        'msbe'
    """
    if metric not in summary.results.metrics:
        raise ValueError(f"{metric}: not loaded; choose from: {', '.join(summary.results.metrics)}")
    task = chosen_task(summary, task)
    if task is None:
        raise ValueError(f"task: is missing; choose from: {', '.join(summary.tasks)}")
    measured = measured_runs(summary, summary.results.curves(metric), task, chosen(summary, variants))
    draw_spread(summary, ax, measured)
    figures.set_steps_axis(ax, [steps for steps, _ in measured.values()]).set_xlabel("steps")
    ax.set_title(figure_text(title(summary, task)))
    ax.set_ylabel(metric.replace("_", " "))
    return ax


def add_legend(summary: Summary, ax: Axes, variants: Sequence[str] | None = None, **options: Any) -> Legend:
    """A legend of the variants in the colors and dashes of the report.

    Args:
        summary: all numbers.
        ax: where to draw.
        variants: default: all in `summary.drawn`.
        options: of `Axes.legend`, such as `loc` and `ncols`.

    Example:
        >>> figure, ax = plt.subplots()
        >>> len(scorer.add_legend(summary, ax, loc="lower right").get_texts())
        6
    """
    return ax.legend(handles=figures.legend_handles(chosen(summary, variants), looks_of(summary)), **options)


def draw_spread(summary: Summary, ax: Axes, measured: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Draw `measured_runs`; the axis may be logarithmic if all values are above 0."""
    positive = bool(measured) and all((runs[np.isfinite(runs)] > 0).all() for _, runs in measured.values())
    figures.spread(measured, looks_of(summary), ax, logarithmic=positive)
