"""Drawing: each function draws prepared numbers on given axes and returns the axes. Nothing is computed here."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    EngFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

from analysis.statistics import Estimate
from analysis.style import BASELINE_COLOUR, Look, figure_text

BAND = 0.18  # opacity of the area between the bounds
SHORT = 10  # a curve this many times shorter than the longest one is not legible on a linear axis


def interval_estimates(
    estimates: Mapping[str, Estimate], looks: Mapping[str, Look], ax: Axes, random: float | None = None
) -> Axes:
    """One row per variant, the first at the top: the interval as a bar, the estimate as a line; `random` dashed."""
    for row, (name, found) in enumerate(estimates.items()):
        value, low, high = (float(number) for number in found)
        if np.isfinite(low):
            ax.barh(row, high - low, left=low, height=0.55, color=looks[name].colour, alpha=0.55, linewidth=0)
        ax.plot([value, value], [row - 0.33, row + 0.33], color=looks[name].colour, linewidth=2, solid_capstyle="butt")
    if random is not None:
        ax.axvline(random, color="#777777", linestyle=(0, (2, 2)), linewidth=1)
    ax.set_yticks(range(len(estimates)), [figure_text(name) for name in estimates])
    ax.set_ylim(len(estimates) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False, axis="y")
    ax.use_sticky_edges = False
    ax.margins(x=0.06)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    return ax


def performance_profiles(
    profiles: Mapping[str, Estimate],
    thresholds: np.ndarray,
    looks: Mapping[str, Look],
    ax: Axes,
    xlabel: str,
    ylabel: str,
) -> Axes:
    """Fraction of runs or tasks above each threshold, drawn by rliable."""
    from rliable import plot_utils  # imports seaborn, which takes seconds

    plot_utils.plot_performance_profiles(
        {name: found.value for name, found in profiles.items()},
        thresholds,
        performance_profile_cis={name: (found.low, found.high) for name, found in profiles.items()},
        ax=ax,
        colors={name: looks[name].colour for name in profiles},
        linestyles={name: looks[name].dashes for name in profiles},
        alpha=_band(len(profiles)),
        xlabel=xlabel,
        ylabel=ylabel,
        labelsize="medium",
        ticklabelsize="small",
        wrect=0,
        hrect=0,
    )
    return _usual_style(ax)


def learning_curves(
    curves: Mapping[str, Estimate],
    steps: np.ndarray,
    looks: Mapping[str, Look],
    ax: Axes,
    random: float | None = None,
    ylabel: str = "IQM of return",
) -> Axes:
    """IQM against environment steps with its band, drawn by rliable; `random` as a dashed line.

    Each curve connects the steps at which it has a value. A curve with one such step is a dot.
    """
    from rliable import plot_utils

    valid = {name: np.isfinite(found.value) for name, found in curves.items()}
    for name, found in curves.items():
        here = valid[name]
        plot_utils.plot_sample_efficiency_curve(
            steps[here],
            {name: found.value[here]},
            {name: (found.low[here], found.high[here])},
            ax=ax,
            colors={name: looks[name].colour},
            marker="" if here.sum() > 1 else "o",
            xlabel="environment steps",
            ylabel=ylabel,
            labelsize="medium",
            ticklabelsize="small",
            wrect=0,
            hrect=0,
        )
    for line, band, name in zip(ax.get_lines(), ax.collections, curves, strict=True):
        line.set(linestyle=looks[name].dashes, markersize=3)
        band.set(alpha=_band(len(curves)), linewidth=0)
    if random is not None:
        ax.axhline(random, color="#777777", linestyle=(0, (2, 2)), linewidth=1)
    return _usual_style(set_steps_axis(ax, [steps[here] for here in valid.values()]))


def improvements(found: Mapping[str, Estimate], looks: Mapping[str, Look], ax: Axes) -> Axes:
    """Probability of improvement over the baseline, one row per variant; a line marks one half: no difference."""
    interval_estimates(found, looks, ax)
    ax.axvline(0.5, color="#333333", linewidth=1)
    ax.set_xlim(-0.02, 1.02)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    return ax


def along_axis(
    lines: Mapping[str, Sequence[tuple[Any, Estimate]]],
    looks: Mapping[str, Look],
    ax: Axes,
    baseline: Estimate | None = None,
) -> Axes:
    """Score against a setting: one line per list of (value, estimate) pairs, with error bars; the baseline as a band.

    The axis is logarithmic if numbers span a factor of eight. Values that are not numbers have equal distances.
    """
    values = list(dict.fromkeys(value for pairs in lines.values() for value, _ in pairs))
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    values = sorted(values) if numeric else values
    logarithmic = numeric and min(values) > 0 and max(values) >= 8 * min(values)
    places = {value: value if numeric else place for place, value in enumerate(values)}
    if baseline is not None:
        ax.axhspan(float(baseline.low), float(baseline.high), color=BASELINE_COLOUR, alpha=BAND, linewidth=0)
        ax.axhline(float(baseline.value), color=BASELINE_COLOUR, linewidth=1.4)
    for name, pairs in lines.items():
        pairs = sorted(pairs, key=lambda pair: places[pair[0]])
        value, low, high = (np.array([float(getattr(e, part)) for _, e in pairs]) for part in Estimate._fields)
        look = looks[name]
        ax.errorbar(
            [places[setting] for setting, _ in pairs],
            value,
            yerr=np.nan_to_num(np.maximum([value - low, high - value], 0)),
            color=look.colour,
            linestyle=look.dashes if numeric else "none",
            marker=look.marker,
            markersize=4,
            capsize=2.5,
            elinewidth=1.2,
        )
    if logarithmic:
        ax.set_xscale("log")
    if not numeric or len(values) <= 7:
        ax.set_xticks([places[value] for value in values], [figure_text(setting_text(value)) for value in values])
        ax.set_xticks([], minor=True)
    return ax


def _band(variants: int) -> float:
    """Opacity of a band: with many variants the bands overlap, so each is fainter."""
    return BAND if variants <= 6 else BAND * 6 / variants


def setting_text(value: Any) -> str:
    """A setting as an axis label: `0.5`, `64x64`."""
    if isinstance(value, float):
        return f"{value:g}"
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def heat_map(
    cells: Mapping[tuple[Any, Any], float], ax: Axes, low: float, high: float, names: tuple[str, str] = ("", "")
) -> Axes:
    """The score of each pair of settings (row, column), with its number; colours go from `low` to `high`."""
    rows, columns = (sorted({pair[side] for pair in cells}, key=_order) for side in (0, 1))
    grid = np.array([[cells.get((row, column), np.nan) for column in columns] for row in rows])
    ax.imshow(np.ma.masked_invalid(grid), cmap="cividis", vmin=low, vmax=high, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            dark = (value - low) < 0.55 * ((high - low) or 1)
            ax.text(column, row, f"{value:.3g}", ha="center", va="center", color="w" if dark else "k", fontsize=7)
    ax.set_yticks(range(len(rows)), [figure_text(setting_text(row)) for row in rows])
    ax.set_xticks(range(len(columns)), [figure_text(setting_text(column)) for column in columns])
    ax.set_ylabel(figure_text(names[0]))
    ax.set_xlabel(figure_text(names[1]))
    ax.grid(visible=False)
    return ax


def _order(value: Any) -> tuple[bool, Any]:
    number = isinstance(value, int | float)
    return not number, value if number else str(value)


def spread(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    looks: Mapping[str, Look],
    ax: Axes,
    logarithmic: bool = False,
) -> Axes:
    """Median over runs of a metric with the interquartile range as a band.

    `curves` are (steps, values `num_runs x num_steps`) by variant. Each step uses the runs that have a value there, at
    least one. The axis is logarithmic only if the values span a factor of five: otherwise it would have too few labels.
    """
    for name, (steps, runs) in curves.items():
        quantile = np.quantile if np.isfinite(runs).all() else np.nanquantile  # nanquantile is far slower
        quarter, middle, three = quantile(runs, [0.25, 0.5, 0.75], axis=0)
        marker = "" if len(steps) > 1 else "o"
        ax.plot(steps, middle, color=looks[name].colour, linestyle=looks[name].dashes, marker=marker, markersize=3)
        ax.fill_between(steps, quarter, three, color=looks[name].colour, alpha=_band(len(curves)), linewidth=0)
    lowest, highest = ax.dataLim.intervaly
    if logarithmic and highest >= 5 * lowest:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        if high < 100 * low:
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
    return ax


def set_steps_axis(ax: Axes, steps: Sequence[np.ndarray]) -> Axes:
    """Format the axis of environment steps for curves at these `steps`.

    It is logarithmic if one curve is so much shorter than another that it would be a dash at the left edge.
    """
    place, figure = ax.get_subplotspec(), ax.get_figure(root=True)
    columns = place.get_gridspec().ncols if place else 1
    width = figure.get_figwidth() / columns if figure else 3.0
    first = min((curve[0] for curve in steps), default=0)
    ends = [curve[-1] for curve in steps]
    if first > 0 and max(ends) > SHORT * min(ends):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(numticks=int(np.clip(2 * width, 2, 5))))
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(int(np.clip(2 * width, 2, 5))))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    if first < max(ends, default=0):
        ax.set_xlim(first, max(ends))
    return ax


def _usual_style(ax: Axes) -> Axes:
    """Undo rliable's style for slides: thick spines, no tick marks, wide lines."""
    for spine in ax.spines.values():
        spine.set_linewidth(0.8)
    ax.tick_params(length=2.5, width=0.8)
    for line in ax.get_lines():
        line.set_linewidth(min(line.get_linewidth(), 1.4))
    return ax


def legend_handles(names: Sequence[str], looks: Mapping[str, Look]) -> list[Line2D]:
    """A labelled line per variant, for a legend."""
    handles = [Line2D([], [], color=looks[n].colour, linestyle=looks[n].dashes, linewidth=1.6) for n in names]
    for handle, name in zip(handles, names, strict=True):
        handle.set_label(figure_text(name))
    return handles


def legend_below(figure: Figure, names: Sequence[str], looks: Mapping[str, Look]) -> None:
    """A legend of all variants below the panels; the figure becomes higher by its height."""
    handles = legend_handles(names, looks)
    per_name = 0.5 + 0.064 * max(map(len, names))  # inches: the line, and 7 pt letters
    columns = max(1, min(len(names), int(figure.get_figwidth() / per_name)))
    rows = -(-len(names) // columns)
    columns = -(-len(names) // rows)
    figure.set_figheight(figure.get_figheight() + 0.2 + 0.145 * rows)
    across = [
        handle for column in range(columns) for handle in handles[column::columns]
    ]  # matplotlib fills columns first
    figure.legend(handles=across, loc="outside lower center", ncols=columns, handlelength=2.4, columnspacing=1.2)
