"""The figures of a report: which ones a sweep needs, their layout, legends and captions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import figures, panels
from analysis.load import DIAGNOSTICS, LOSSES
from analysis.panel_contents import (
    axes_of,
    band_of,
    compared_of,
    crossed_by,
    fraction_of,
    looks_of,
    measured_runs,
    title,
)
from analysis.sentences import method, no_claims
from analysis.style import WIDTHS, Venue, figure_text, looks, new_figure
from analysis.summary import LEGIBLE, Summary
from scorer_core.support.text import count

Panel = str | None  # a task, or None for all tasks


@dataclass(frozen=True)
class ReportFigure:
    """A figure and its caption: what it shows (`caption`), and how its numbers were made (`method`)."""

    figure: Figure
    caption: str
    method: str


def figure_builders(summary: Summary) -> dict[str, Callable[[Summary, Venue], ReportFigure]]:
    """By name, every figure that this sweep has the numbers for: the choices of `--figure`."""
    builders: dict[str, Callable[[Summary, Venue], ReportFigure]] = {"intervals": intervals}
    if any(name in summary.comparison_of for name in summary.drawn):
        builders["improvement"] = improvement
    for setting, lines in axes_of(summary).items():
        if len(lines) <= LEGIBLE:
            builders[setting] = lambda summary, venue, setting=setting: along(summary, venue, setting)
    for pair in _pairs(summary):
        builders["-".join(pair)] = lambda summary, venue, pair=pair: heat_maps(summary, venue, pair)
    if summary.curves:
        builders["curves"] = curves
    if summary.profiles:
        builders["profiles"] = profiles
    for name, metrics in {"losses": LOSSES, "diagnostics": DIAGNOSTICS}.items():
        if summary.curves and set(metrics) & set(summary.results.metrics):
            builders[name] = lambda summary, venue, name=name, metrics=metrics: logged(summary, venue, name, metrics)
    return builders


def _panels(summary: Summary) -> list[Panel]:
    return [*summary.tasks, *([None] if len(summary.tasks) > 1 and summary.normalized else [])]


def _grid(places: Sequence[Any], width: float, height: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """Panels of `height` inches and at least 1.7 inches wide, at most three in a row."""
    columns = max(1, min(3, len(places), int(width / 1.7)))
    rows = -(-len(places) // columns)
    figure = new_figure(width if columns > 1 else min(width, 4.6), rows * height)
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for ax in axes.flat[len(places) :]:
        ax.remove()
    return figure, list(axes.flat[: len(places)])


def _caption(summary: Summary, *sentences: str) -> str:
    drawn, of = len(summary.drawn), len(summary.raw)
    selection = f"{drawn} of {of} variants: the baselines and the highest." if drawn < of else ""
    return " ".join(sentence for sentence in (*sentences, selection) if sentence)


def _joins_tasks(summary: Summary) -> bool:
    """Whether a figure with one panel per task also has a panel of all tasks."""
    return len(summary.tasks) > 1


DASHED = "Dashed line: a random policy."


def intervals(summary: Summary, venue: Venue) -> ReportFigure:
    tasks = _panels(summary)
    height = 0.75 + 0.2 * len(summary.drawn)
    figure, axes = _grid(tasks, WIDTHS[venue][0], height, sharey=True)
    for ax, task in zip(axes, tasks, strict=True):
        panels.plot_intervals(summary, ax, task)
    caption = _caption(
        summary,
        "IQM (line) and 95 % confidence interval (bar) of each variant.",
        DASHED if any(value is not None for value in summary.random.values()) else "",
    )
    return ReportFigure(figure, caption, method(summary, summary.settings.reps, scale=_joins_tasks(summary)))


def profiles(summary: Summary, venue: Venue) -> ReportFigure:
    figure, (ax,) = _grid(["all"], WIDTHS[venue][1], 2.6)
    panels.plot_profiles(summary, ax)
    figures.legend_below(figure, list(summary.profiles), looks_of(summary))
    over = "" if summary.settings.profiles_of_averages else "over all tasks, "
    caption = _caption(
        summary,
        f"Performance profiles: fraction of {fraction_of(summary)}, {over}with pointwise 95 % confidence bands.",
    )
    return ReportFigure(figure, caption, method(summary, summary.settings.curve_reps))


def curves(summary: Summary, venue: Venue) -> ReportFigure:
    tasks = [task for task in _panels(summary) if any(key[1] == task for key in summary.curves)]
    names = [name for name in summary.drawn if any(key[0] == name for key in summary.curves)]
    figure, axes = _grid(tasks, WIDTHS[venue][0], 2.0)
    for ax, task in zip(axes, tasks, strict=True):
        panels.plot_curves(summary, ax, task)
    figures.legend_below(figure, names, looks_of(summary))
    bands = "simultaneous (max-t)" if summary.settings.simultaneous_bands else "pointwise"
    caption = _caption(
        summary,
        f"IQM of the logged return at each step with {bands} 95 % confidence bands.",
        _runs_per_step(summary),
        DASHED if any(value is not None for value in summary.random.values()) else "",
    )
    return ReportFigure(
        figure, caption, method(summary, summary.settings.curve_reps, score=False, scale=_joins_tasks(summary))
    )


def _runs_per_step(summary: Summary) -> str:
    """How runs with values at different steps are combined; empty if all have values at the same steps."""
    groups: dict[tuple[str, str], list[np.ndarray]] = {}
    for (name, task, _), series in summary.results.series.items():
        if name in summary.drawn:
            groups.setdefault((name, task), []).append(series.steps[series.valid])
    if all(np.array_equal(runs[0], steps) for runs in groups.values() for steps in runs):
        return ""
    return (
        "Each step uses the runs that have a value there; a run is interpolated linearly between its values and ends "
        "at its last value."
    )


def improvement(summary: Summary, venue: Venue) -> ReportFigure:
    compared = compared_of(summary)
    height = 0.75 + 0.2 * len(compared)
    figure, (left, right) = _grid(["difference", "probability"], WIDTHS[venue][0], height, sharey=True)
    panels.plot_differences(summary, left)
    panels.plot_improvements(summary, right)
    baselines = ", ".join(dict.fromkeys(comparison.baseline for comparison in compared))
    caption = _caption(
        summary,
        f"Comparison with {baselines} over all tasks. Left: difference of the IQMs, paired by seed, with simultaneous "
        f"intervals over {count(len(summary.comparisons), 'comparison')} (max-t). Right: probability that a run scores "
        "higher than a run of the baseline; these intervals are not adjusted.",
        *no_claims(summary),
    )
    return ReportFigure(figure, caption, method(summary, summary.settings.reps))


def along(summary: Summary, venue: Venue, setting: str) -> ReportFigure:
    lines = axes_of(summary)[setting]
    tasks = _panels(summary)
    figure, axes = _grid(tasks, WIDTHS[venue][0], 2.0)
    for ax, task in zip(axes, tasks, strict=True):
        panels.plot_along(summary, ax, setting, task)
    band, names, line_looks = band_of(summary, lines), list(lines), looks(list(lines), [])
    if band:
        names, line_looks = [band, *names], {band: looks_of(summary)[band], **line_looks}
    figures.legend_below(figure, names, line_looks)
    caption = _caption(
        summary,
        f"IQM for each value of {setting} with 95 % confidence intervals.",
        f"Band: {band}." if band else "",
    )
    return ReportFigure(figure, caption, method(summary, summary.settings.reps, scale=_joins_tasks(summary)))


def _pairs(summary: Summary) -> list[tuple[str, str]]:
    """Pairs of axes of which the sweep has the product."""
    found: dict[tuple[str, str], set[tuple[Any, Any]]] = {}
    for point in summary.results.points:
        if len(point.point) == 2:
            (first, a), (second, b) = point.point
            found.setdefault((first, second), set()).add((a, b))
    return [pair for pair, cells in found.items() if len(cells) > max(len({c[i] for c in cells}) for i in (0, 1))]


def heat_maps(summary: Summary, venue: Venue, pair: tuple[str, str]) -> ReportFigure:
    families = dict.fromkeys(point.base_name for point in crossed_by(summary, pair))
    places = [(family, task) for family in families for task in _panels(summary)]
    figure, axes = _grid(places, WIDTHS[venue][0], 2.1)
    for ax, (family, task) in zip(axes, places, strict=True):
        panels.plot_heat_map(summary, ax, pair, task, family)
    caption = _caption(
        summary,
        f"IQM for each {pair[0]} and {pair[1]}. Colors go from the lowest to the highest cell of a task. The "
        "confidence intervals are in the results table.",
    )
    return ReportFigure(figure, caption, method(summary, summary.settings.reps, scale=_joins_tasks(summary)))


def logged(summary: Summary, venue: Venue, name: str, wanted: Sequence[str]) -> ReportFigure:
    """Logged metrics other than the return: one row of panels per metric."""
    metrics = [metric for metric in wanted if metric in summary.results.metrics]
    places = [(metric, task) for metric in metrics for task in summary.tasks]
    columns = len(summary.tasks)
    figure = new_figure(WIDTHS[venue][0] if columns > 1 else min(4.6, WIDTHS[venue][0]), 1.35 * len(metrics))
    axes = figure.subplots(len(metrics), columns, squeeze=False, sharex=True)
    arrays = {metric: summary.results.curves(metric) for metric in metrics}
    names: set[str] = set()  # an imported variant has returns only
    steps: list[np.ndarray] = []
    for ax, (metric, task) in zip(axes.flat, places, strict=True):
        measured = measured_runs(summary, arrays[metric], task, summary.drawn)
        panels.draw_spread(summary, ax, measured)
        names |= measured.keys()
        steps += [own for own, _ in measured.values()]
        if metric == metrics[0]:
            ax.set_title(figure_text(title(summary, task)))
        if task == summary.tasks[0]:
            ax.set_ylabel(metric.replace("_", " "))
    for ax in axes[-1]:  # the panels share it
        figures.set_steps_axis(ax, steps).set_xlabel("steps")
    figure.align_ylabels(axes[:, 0])
    figures.legend_below(figure, [name for name in summary.drawn if name in names], looks_of(summary))
    caption = _caption(
        summary,
        f"{name.capitalize()} during training: median and interquartile range over runs (not a confidence interval).",
        _runs_per_step(summary),
    )
    return ReportFigure(figure, caption, f"{summary.seeds_text[0].upper()}{summary.seeds_text[1:]} per task.")
