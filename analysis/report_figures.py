"""The figures of a report: which ones a sweep needs, their panels, legends and captions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import figures
from analysis.sentences import method, no_claims
from analysis.statistics import Estimate
from analysis.style import WIDTHS, Look, Venue, figure_text, looks, new_figure
from analysis.summary import LEGIBLE, Summary
from scorer_core.support.text import count
from sweeps.expansion import Variant

LOSSES = ("td_error", "msbe", "be_variance", "leader_grad_norm", "follower_grad_norm")
DIAGNOSTICS = ("srank", "dormant", "gradient_cosine", "q_bias", "effective_ratio")  # the most informative ones
Panel = str | None  # a task, or None for all tasks
NOTHING = Estimate(*(np.array(np.nan),) * 3)


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
    for setting, lines in _axes(summary).items():
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


def _looks(summary: Summary) -> dict[str, Look]:
    return looks(summary.results.variants, summary.results.baselines)


def _panels(summary: Summary) -> list[Panel]:
    return [*summary.tasks, *([None] if len(summary.tasks) > 1 and summary.normalized else [])]


def _title(summary: Summary, panel: Panel) -> str:
    return summary.task_label(panel) if panel else "all tasks"


def _unit(summary: Summary, panel: Panel) -> str:
    return "IQM of return" if panel or summary.normalization.scheme == "none" else "normalized IQM"


def _estimate(summary: Summary, name: str, panel: Panel) -> Estimate:
    if panel is None:
        return summary.aggregates[name]["iqm"] if name in summary.aggregates else NOTHING
    return summary.per_task.get((name, panel), NOTHING)


def _grid(panels: Sequence[Any], width: float, height: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """Panels of `height` inches and at least 1.7 inches wide, at most three in a row."""
    columns = max(1, min(3, len(panels), int(width / 1.7)))
    rows = -(-len(panels) // columns)
    figure = new_figure(width if columns > 1 else min(width, 4.6), rows * height)
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    return figure, list(axes.flat[: len(panels)])


def _caption(summary: Summary, *sentences: str) -> str:
    drawn, of = len(summary.drawn), len(summary.raw)
    selection = f"{drawn} of {of} variants: the baselines and the highest." if drawn < of else ""
    return " ".join(sentence for sentence in (*sentences, selection) if sentence)


def _joins_tasks(summary: Summary) -> bool:
    """Whether a figure with one panel per task also has a panel of all tasks."""
    return len(summary.tasks) > 1


DASHED = "Dashed line: a random policy."


def intervals(summary: Summary, venue: Venue) -> ReportFigure:
    panels = _panels(summary)
    height = 0.75 + 0.2 * len(summary.drawn)
    figure, axes = _grid(panels, WIDTHS[venue][0], height, sharey=True)
    for ax, panel in zip(axes, panels, strict=True):
        found = {name: _estimate(summary, name, panel) for name in summary.drawn}
        figures.interval_estimates(found, _looks(summary), ax, random=summary.random[panel] if panel else None)
        ax.set_title(figure_text(_title(summary, panel)))
        ax.set_xlabel(_unit(summary, panel))
    caption = _caption(
        summary,
        "IQM (line) and 95 % confidence interval (bar) of each variant.",
        DASHED if any(value is not None for value in summary.random.values()) else "",
    )
    return ReportFigure(figure, caption, method(summary, summary.settings.reps, scale=_joins_tasks(summary)))


def profiles(summary: Summary, venue: Venue) -> ReportFigure:
    figure, (ax,) = _grid(["all"], WIDTHS[venue][1], 2.6)
    names = list(summary.profiles)
    unit = "return" if summary.normalization.scheme == "none" else "normalized score"
    averages = summary.settings.profiles_of_averages
    fraction = "tasks with mean score > tau" if averages else "runs with score > tau"
    unit, ylabel = f"{unit} (tau)", f"fraction of {fraction}"
    figures.performance_profiles(summary.profiles, summary.thresholds, _looks(summary), ax, unit, ylabel)
    figures.legend_below(figure, names, _looks(summary))
    caption = _caption(
        summary,
        f"Performance profiles: fraction of {fraction}, {'' if averages else 'over all tasks, '}with pointwise 95 % "
        "confidence bands.",
    )
    return ReportFigure(figure, caption, method(summary, summary.settings.curve_reps))


def curves(summary: Summary, venue: Venue) -> ReportFigure:
    panels = [panel for panel in _panels(summary) if any(key[1] == panel for key in summary.curves)]
    names = [name for name in summary.drawn if any(key[0] == name for key in summary.curves)]
    figure, axes = _grid(panels, WIDTHS[venue][0], 2.0)
    for ax, panel in zip(axes, panels, strict=True):
        here = {name: summary.curves[name, panel] for name in names if (name, panel) in summary.curves}
        random = summary.random[panel] if panel else None
        figures.learning_curves(here, summary.results.steps, _looks(summary), ax, random, _unit(summary, panel))
        ax.set_title(figure_text(_title(summary, panel)))
    figures.legend_below(figure, names, _looks(summary))
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
    compared = summary.comparison_of
    found = {name: compared[name].improvement for name in summary.drawn if name in compared}
    differences = {name: compared[name].simultaneous for name in found}
    figure, (left, right) = _grid(["difference", "probability"], WIDTHS[venue][0], 0.75 + 0.2 * len(found), sharey=True)
    figures.interval_estimates(differences, _looks(summary), left)
    left.axvline(0, color="#333333", linewidth=1)
    no_claim = all(compared[name].no_claim for name in found)
    left.set_xlabel("difference of IQMs" + (" (too few seeds)" if no_claim else ""))
    figures.improvements(found, _looks(summary), right)
    right.set_xlabel("probability of improvement")
    baselines = ", ".join(dict.fromkeys(compared[name].baseline for name in found))
    caption = _caption(
        summary,
        f"Comparison with {baselines} over all tasks. Left: difference of the IQMs, paired by seed, with simultaneous "
        f"intervals over {count(len(summary.comparisons), 'comparison')} (max-t). Right: probability that a run scores "
        "higher than a run of the baseline; these intervals are not adjusted.",
        *no_claims(summary),
    )
    return ReportFigure(figure, caption, method(summary, summary.settings.reps))


def _axes(summary: Summary) -> dict[str, dict[str, list[tuple[Any, str]]]]:
    """Setting -> line (all other settings of an axis) -> (value, variant) pairs, of axes with two values or more."""
    found: dict[str, dict[str, list[tuple[Any, str]]]] = {}
    for point in summary.results.points:
        for setting, value in point.point if point.name in summary.raw else ():
            others = Variant(point.base_name, tuple(item for item in point.point if item[0] != setting))
            found.setdefault(setting, {}).setdefault(others.name, []).append((value, point.name))
    lines = {setting: {n: p for n, p in named.items() if len(p) > 1} for setting, named in found.items()}
    return {setting: named for setting, named in lines.items() if named}


def along(summary: Summary, venue: Venue, setting: str) -> ReportFigure:
    lines = _axes(summary)[setting]
    panels = _panels(summary)
    line_looks = looks(list(lines), [])
    figure, axes = _grid(panels, WIDTHS[venue][0], 2.0)
    on_lines = {name for pairs in lines.values() for _, name in pairs}
    band = next((name for name in summary.results.baselines if name in summary.raw and name not in on_lines), None)
    for ax, panel in zip(axes, panels, strict=True):
        placed = {
            line: [(value, _estimate(summary, name, panel)) for value, name in pairs] for line, pairs in lines.items()
        }
        figures.along_axis(placed, line_looks, ax, _estimate(summary, band, panel) if band else None)
        ax.set_title(figure_text(_title(summary, panel)))
        ax.set_xlabel(figure_text(setting))
        ax.set_ylabel(_unit(summary, panel))
    names = list(lines)
    if band:
        names, line_looks = [band, *names], {band: _looks(summary)[band], **line_looks}
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
    crossed = [p for p in summary.results.points if tuple(k for k, _ in p.point) == pair and p.name in summary.raw]
    families = list(dict.fromkeys(point.base_name for point in crossed))
    panels = [(family, panel) for family in families for panel in _panels(summary)]
    figure, axes = _grid(panels, WIDTHS[venue][0], 2.1)
    for ax, (family, panel) in zip(axes, panels, strict=True):
        every = {p: float(_estimate(summary, p.name, panel).value) for p in crossed}
        cells = {(p.point[0][1], p.point[1][1]): value for p, value in every.items() if p.base_name == family}
        figures.heat_map(cells, ax, np.nanmin(list(every.values())), np.nanmax(list(every.values())), pair)
        ax.set_title(figure_text(f"{family} {_title(summary, panel)}".strip()))
    caption = _caption(
        summary,
        f"IQM for each {pair[0]} and {pair[1]}. Colors go from the lowest to the highest cell of a task. The "
        "confidence intervals are in the results table.",
    )
    return ReportFigure(figure, caption, method(summary, summary.settings.reps, scale=_joins_tasks(summary)))


def logged(summary: Summary, venue: Venue, name: str, wanted: Sequence[str]) -> ReportFigure:
    """Logged metrics other than the return: one row of panels per metric."""
    metrics = [metric for metric in wanted if metric in summary.results.metrics]
    panels = [(metric, task) for metric in metrics for task in summary.tasks]
    columns = len(summary.tasks)
    figure = new_figure(WIDTHS[venue][0] if columns > 1 else min(4.6, WIDTHS[venue][0]), 1.35 * len(metrics))
    axes = figure.subplots(len(metrics), columns, squeeze=False, sharex=True)
    arrays = {metric: summary.results.curves(metric) for metric in metrics}
    names: set[str] = set()  # an imported variant has returns only
    steps: list[np.ndarray] = []
    for ax, (metric, task) in zip(axes.flat, panels, strict=True):
        present = _measured(summary, arrays[metric], task)
        positive = bool(present) and all((runs[np.isfinite(runs)] > 0).all() for _, runs in present.values())
        figures.spread(present, _looks(summary), ax, logarithmic=positive)
        names |= present.keys()
        steps += [own for own, _ in present.values()]
        if metric == metrics[0]:
            ax.set_title(figure_text(_title(summary, task)))
        if task == summary.tasks[0]:
            ax.set_ylabel(metric.replace("_", " "))
    for ax in axes[-1]:  # the panels share it
        figures.set_steps_axis(ax, steps).set_xlabel("steps")
    figure.align_ylabels(axes[:, 0])
    figures.legend_below(figure, [name for name in summary.drawn if name in names], _looks(summary))
    caption = _caption(
        summary,
        f"{name.capitalize()} during training: median and interquartile range over runs (not a confidence interval).",
        _runs_per_step(summary),
    )
    return ReportFigure(figure, caption, f"{summary.seeds_text[0].upper()}{summary.seeds_text[1:]} per task.")


def _measured(
    summary: Summary, arrays: Mapping[str, np.ndarray], task: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By variant: the steps at which some run on `task` has a value of a metric; the values, `num_runs x num_steps`."""
    found = {}
    for name in summary.drawn:
        if (name, task) in summary.results.logged:
            runs = arrays[name][:, summary.tasks.index(task)]
            runs = np.where(np.isfinite(runs), runs, np.nan)
            measured = np.isfinite(runs).any(axis=0) & summary.results.logged[name, task]
            if measured.any():
                found[name] = summary.results.steps[measured], runs[:, measured]
    return found
