"""What a panel shows: its variants, task, titles, and the numbers of a summary that it draws."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.comparisons import Comparison
from analysis.statistics import Estimate
from analysis.style import Look, looks
from analysis.summary import Summary
from sweeps.expansion import Variant

NOTHING = Estimate(*(np.array(np.nan),) * 3)
Lines = dict[str, list[tuple[Any, str]]]  # line (all settings except one axis) -> (value on the axis, variant) pairs


def chosen(summary: Summary, variants: Sequence[str] | None) -> list[str]:
    """The variants to draw: `variants`, or all in `summary.drawn`.

    Raises:
        ValueError: if a variant is not in `summary.drawn`.
    """
    for name in variants or ():
        if name not in summary.drawn:
            reason = "no finished run, or not in `variants` of `summarize`" if name in summary.results.variants else ""
            raise ValueError(f"{name}: {reason or 'not a variant'}; choose from: {', '.join(summary.drawn)}")
    return list(summary.drawn if variants is None else variants)


def chosen_task(summary: Summary, task: str | None) -> str | None:
    """The task of a panel, None for all tasks together; the only task if there is one.

    Raises:
        ValueError: if the sweep has no such task.
    """
    if task is None:
        return summary.tasks[0] if len(summary.tasks) == 1 else None
    if task not in summary.tasks:
        raise ValueError(f"{task}: not a task of this sweep; choose from: {', '.join(summary.tasks)}")
    return task


def looks_of(summary: Summary) -> dict[str, Look]:
    """The look of each variant."""
    return looks(summary.results.variants, summary.results.baselines)


def title(summary: Summary, task: str | None) -> str:
    """The title of a panel."""
    return summary.task_label(task) if task else "all tasks"


def unit(summary: Summary, task: str | None) -> str:
    """What the axis of scores shows."""
    return "IQM of return" if task or summary.normalization.scheme == "none" else "normalized IQM"


def fraction_of(summary: Summary) -> str:
    """What a performance profile counts."""
    averages = summary.settings.profiles_of_averages
    return "tasks with mean score > tau" if averages else "runs with score > tau"


def estimate_of(summary: Summary, name: str, task: str | None) -> Estimate:
    """The IQM of a variant on a task, or over all tasks; NaN without scores."""
    if task is None:
        return summary.aggregates[name]["iqm"] if name in summary.aggregates else NOTHING
    return summary.per_task.get((name, task), NOTHING)


def compared_of(summary: Summary, variants: Sequence[str] | None = None) -> list[Comparison]:
    """The comparisons of the variants to draw."""
    of = summary.comparison_of
    return [of[name] for name in chosen(summary, variants) if name in of]


def axes_of(summary: Summary) -> dict[str, Lines]:
    """Each axis with two values or more, and its lines."""
    found: dict[str, Lines] = {}
    for point in summary.results.points:
        for setting, value in point.point if point.name in summary.raw else ():
            others = Variant(point.base_name, tuple(item for item in point.point if item[0] != setting))
            found.setdefault(setting, {}).setdefault(others.name, []).append((value, point.name))
    lines = {setting: {n: p for n, p in named.items() if len(p) > 1} for setting, named in found.items()}
    return {setting: named for setting, named in lines.items() if named}


def band_of(summary: Summary, lines: Lines) -> str | None:
    """The baseline that is drawn as a band, because it is on no line."""
    on_lines = {name for pairs in lines.values() for _, name in pairs}
    return next((name for name in summary.results.baselines if name in summary.raw and name not in on_lines), None)


def crossed_by(summary: Summary, pair: tuple[str, str]) -> list[Variant]:
    """The variants with a score that have values on exactly these two axes."""
    points = summary.results.points
    return [point for point in points if tuple(k for k, _ in point.point) == pair and point.name in summary.raw]


def measured_runs(
    summary: Summary, arrays: Mapping[str, np.ndarray], task: str, variants: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By variant: the steps at which some run on `task` has a value of a metric; the values, `num_runs x num_steps`.

    `arrays` are `Results.curves` of the metric.
    """
    found = {}
    for name in variants:
        if (name, task) in summary.results.logged:
            runs = arrays[name][:, summary.tasks.index(task)]
            runs = np.where(np.isfinite(runs), runs, np.nan)
            measured = np.isfinite(runs).any(axis=0) & summary.results.logged[name, task]
            if measured.any():
                found[name] = summary.results.steps[measured], runs[:, measured]
    return found
