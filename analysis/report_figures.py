"""Which figures a sweep calls for: numbers of the summary -> panels, a legend, a caption that says what they show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import figures
from analysis.statistics import Estimate
from analysis.style import WIDTHS, Look, Venue, figure_text, looks, new_figure
from analysis.summary import LEGIBLE, Summary, hints, method, score_text
from sweeps.expansion import Variant

LOSSES = ("td_error", "msbe", "be_variance", "leader_grad_norm", "follower_grad_norm")
DIAGNOSTICS = (
    "srank",
    "dormant",
    "gradient_cosine",
    "q_bias",
    "effective_ratio",
)  # of all that are logged, these tell most
Panel = str | None  # a task; None for all of them together
NOTHING = Estimate(*(np.array(np.nan),) * 3)


@dataclass(frozen=True)
class ReportFigure:
    figure: Figure
    caption: str


def figure_builders(summary: Summary) -> dict[str, Callable[[Summary, Venue], ReportFigure]]:
    """By name, every figure that this sweep's numbers can fill; what `--figure` may ask for."""
    makers: dict[str, Callable[[Summary, Venue], ReportFigure]] = {"intervals": intervals}
    if any(name in summary.comparison_of for name in summary.drawn):
        makers["improvement"] = improvement
    for setting, lines in _axes(summary).items():
        if len(lines) <= LEGIBLE:
            makers[setting] = lambda summary, venue, setting=setting: along(summary, venue, setting)
    for pair in _pairs(summary):
        makers["-".join(pair)] = lambda summary, venue, pair=pair: heat_maps(summary, venue, pair)
    if summary.curves:
        makers["curves"] = curves
    if summary.profiles:
        makers["profiles"] = profiles
    for name, metrics in {"diagnostics": LOSSES, "instruments": DIAGNOSTICS}.items():
        if summary.curves and set(metrics) & set(summary.results.metrics):
            makers[name] = lambda summary, venue, name=name, metrics=metrics: logged(summary, venue, name, metrics)
    return makers


def _looks(summary: Summary) -> dict[str, Look]:
    return looks(summary.results.variants, summary.results.baselines)


def _panels(summary: Summary) -> list[Panel]:
    return [*summary.tasks, *([None] if len(summary.tasks) > 1 and summary.normalised else [])]


def _title(summary: Summary, panel: Panel) -> str:
    return summary.task_label(panel) if panel else "all tasks"


def _unit(summary: Summary, panel: Panel) -> str:
    return "IQM of return" if panel or summary.normalisation.scheme == "none" else "normalised IQM"


def _estimate(summary: Summary, name: str, panel: Panel) -> Estimate:
    if panel is None:
        return summary.aggregates[name]["iqm"] if name in summary.aggregates else NOTHING
    return summary.per_task.get((name, panel), NOTHING)


def _grid(panels: Sequence[Any], width: float, height: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """Panels of `height` inches, as many in a row as are 1.7 inches wide, three at most."""
    columns = max(1, min(3, len(panels), int(width / 1.7)))
    rows = -(-len(panels) // columns)
    figure = new_figure(width if columns > 1 else min(width, 4.6), rows * height)
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    return figure, list(axes.flat[: len(panels)])


def _shown_of(summary: Summary) -> str:
    drawn, of = len(summary.drawn), len(summary.raw)
    return f"The baselines and the highest of {of} variants, {drawn} in all." if drawn < of else ""


def _caption(summary: Summary, *sentences: str) -> str:
    return " ".join(sentence.strip() for sentence in (*sentences, _shown_of(summary)) if sentence.strip())


def _scale(summary: Summary) -> str:
    return summary.normalisation.caption if len(summary.tasks) > 1 else ""


def _tables_method(summary: Summary) -> str:
    return method(summary, summary.settings.replications)


def _curves_method(summary: Summary) -> str:
    return method(summary, summary.settings.curve_replications)


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
        f"IQM with {_tables_method(summary)}; {summary.runs_text} seeds a task.",
        "Dashed: a random policy.",
        score_text(summary),
        _scale(summary),
    )
    return ReportFigure(figure, caption)


def profiles(summary: Summary, venue: Venue) -> ReportFigure:
    figure, (ax,) = _grid(["all"], WIDTHS[venue][1], 2.6)
    names = list(summary.profiles)
    unit = "return" if summary.normalisation.scheme == "none" else "normalised score"
    averages = summary.settings.profiles_of_averages
    what = "tasks whose mean score lies" if averages else "runs, all tasks together, that score"
    ylabel = f"share of {'tasks' if averages else 'runs'} above"
    figures.performance_profiles(summary.profiles, summary.thresholds, _looks(summary), ax, unit, ylabel)
    figures.legend_below(figure, names, _looks(summary))
    caption = _caption(
        summary,
        f"Performance profiles: share of {what} above a threshold.",
        f"Pointwise {_curves_method(summary)}; {summary.runs_text} seeds a task.",
        score_text(summary),
        summary.normalisation.caption,
    )
    return ReportFigure(figure, caption)


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
    bands = "that hold at all steps together (max-t)" if summary.settings.simultaneous_bands else "pointwise"
    caption = _caption(
        summary,
        f"IQM of the logged return at each step; bands {bands}: {_curves_method(summary)}; "
        f"{summary.runs_text} seeds a task.",
        _runs_per_step(summary),
        "Dashed: a random policy.",
        _scale(summary),
    )
    return ReportFigure(figure, caption)


def _runs_per_step(summary: Summary) -> str:
    """How curves join runs that do not all have a value at the same steps; nothing where they do."""
    groups: dict[tuple[str, str], list[np.ndarray]] = {}
    for (name, task, _), series in summary.results.series.items():
        if name in summary.drawn:
            groups.setdefault((name, task), []).append(series.steps[series.valid])
    if all(np.array_equal(runs[0], steps) for runs in groups.values() for steps in runs):
        return ""
    return (
        "Each step shows the runs that have a value there; a run is interpolated linearly between its own values and "
        "ends with them."
    )


def improvement(summary: Summary, venue: Venue) -> ReportFigure:
    compared = summary.comparison_of
    found = {name: compared[name].improvement for name in summary.drawn if name in compared}
    differences = {name: compared[name].family for name in found}
    figure, (left, right) = _grid(["difference", "probability"], WIDTHS[venue][0], 0.75 + 0.2 * len(found), sharey=True)
    figures.interval_estimates(differences, _looks(summary), left)
    left.axvline(0, color="#333333", linewidth=1)
    all_hints = all(compared[name].hint for name in found)
    left.set_xlabel("difference of IQMs" + (" (hint only)" if all_hints else ""))
    figures.improvements(found, _looks(summary), right)
    right.set_xlabel("probability of improvement")
    baselines = ", ".join(dict.fromkeys(compared[name].baseline for name in found))
    caption = _caption(
        summary,
        f"Against {baselines}, all tasks: difference of the IQMs, paired by seed, with intervals that hold for all "
        f"{len(summary.comparisons)} comparisons together (max-t); probability that a run scores higher than one of "
        "the baseline's, each with an interval of its own.",
        *hints(summary),
        f"Else {_tables_method(summary)}; {summary.runs_text} seeds a task.",
        score_text(summary),
        summary.normalisation.caption,
    )
    return ReportFigure(figure, caption)


def _axes(summary: Summary) -> dict[str, dict[str, list[tuple[Any, str]]]]:
    """Setting -> line (what else tells the variants apart) -> (value, variant) pairs, of axes with two values."""
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
        f"IQM against {setting}; {_tables_method(summary)}; {summary.runs_text} seeds a task.",
        f"Band: {band}." if band else "",
        score_text(summary),
        _scale(summary),
    )
    return ReportFigure(figure, caption)


def _pairs(summary: Summary) -> list[tuple[str, str]]:
    """Two axes that were crossed, not moved together."""
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
        f"IQM for each {pair[0]} and {pair[1]}, {summary.runs_text} seeds a task; a panel's colours run from its "
        "task's lowest to its highest cell. The intervals of all cells are in the table.",
        score_text(summary),
        _scale(summary),
    )
    return ReportFigure(figure, caption)


def logged(summary: Summary, venue: Venue, plate: str, wanted: Sequence[str]) -> ReportFigure:
    """What else than returns was logged, a row of panels a metric."""
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
        figures.steps_below(ax, steps).set_xlabel("steps")
    figure.align_ylabels(axes[:, 0])
    figures.legend_below(figure, [name for name in summary.drawn if name in names], _looks(summary))
    caption = _caption(
        summary,
        f"{plate.capitalize()} over training: median over runs; the band holds the middle half of the runs (no "
        f"interval for the median); {summary.runs_text} seeds a task.",
        _runs_per_step(summary),
    )
    return ReportFigure(figure, caption)


def _measured(
    summary: Summary, arrays: Mapping[str, np.ndarray], task: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By variant, the steps at which any of its runs on `task` has a value of a metric, and its runs x these steps."""
    found = {}
    for name in summary.drawn:
        if (name, task) in summary.results.logged:
            runs = arrays[name][:, summary.tasks.index(task)]
            runs = np.where(np.isfinite(runs), runs, np.nan)
            measured = np.isfinite(runs).any(axis=0) & summary.results.logged[name, task]
            if measured.any():
                found[name] = summary.results.steps[measured], runs[:, measured]
    return found
