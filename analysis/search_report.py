"""The figures and tables of a search, written to report/ in its folder."""

import csv
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import BAND
from analysis.search_summary import SearchSummary, interval
from analysis.statistics import Estimate
from analysis.style import BASELINE_COLOUR, COLOURS, figure_text, new_figure, save, styled
from scorer_core.identity import digest
from scorer_core.support.files import replace_file, write_json

COMPLETE_FOR_FIGURES = 2


def write_report(summary: SearchSummary) -> list[Path]:
    """Write all figures and tables for which the study has enough trials; returns their paths.

    Raises:
        RecordError: if a file cannot be written.
    """
    folder = summary.study.folder / "report"
    written = [_trials_csv(summary, folder / "trials.csv")]
    if summary.count("complete") < COMPLETE_FOR_FIGURES:
        return written
    provenance = {
        "search": summary.search.name,
        "definition": digest(summary.search.identity),
        "trials": {state: summary.count(state) for state in ("complete", "pruned", "fail", "running")},
        "runs": sorted({r for t in summary.study.trials() for r in t.user_attrs.get("runs", {})}),
        "optuna": optuna.__version__,
    }
    with styled():
        for name in summary.slices:
            figure = new_figure(3.6, 2.6)
            draw_slice(summary, name, figure.add_subplot())
            written += save(figure, folder / f"slice-{name}", provenance)
        if summary.confirmed:
            figure = new_figure(3.6, 0.9 + 0.35 * len(summary.confirmed))
            draw_confirmed(summary, figure.add_subplot())
            written += save(figure, folder / "confirmed", provenance)
    for name, draw in _optuna_figures(summary).items():
        with _optuna_style(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e.g. that Optuna's matplotlib figures are experimental
            axes = draw(summary.study.optuna)
            figure = np.ravel(axes)[0].get_figure(root=True)
            figure.set_size_inches(6.0, 4.0)
            written += _save_without_layout(figure, folder / f"optuna-{name}", provenance)
    return written


def draw_slice(summary: SearchSummary, name: str, ax: Axes) -> Axes:
    """Every complete trial with its interval, in grey; averages over ranges of the field; variants of a sweep."""
    dimension = summary.search.space[name]
    choices = [] if dimension.numeric else list(dimension.values)

    def x(value: Any) -> float:
        return choices.index(value) if choices else value

    for row in summary.rows:
        if row.estimates and name in row.point:
            _bar(ax, x(row.point[name]), row.estimates[0], "#999999", "o", 0.45, 2.5)
    places = summary.slices[name]
    _line(ax, [x(place.at) for place in places], [place.estimate for place in places], not choices)
    for place in summary.against.get(name, []):
        _bar(ax, x(place.at), place.estimate, COLOURS[1], "s", 1.0, 4.0)
    handles = [("trial", "#999999", "o"), ("mean of trials", COLOURS[0], "D")]
    handles += [("sweep", COLOURS[1], "s")] if summary.against.get(name) else []
    marks = [Line2D([], [], marker=m, color=c, linestyle="none", label=label, markersize=4) for label, c, m in handles]
    if figure := ax.get_figure(root=True):
        figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    if dimension.form.startswith("log"):
        ax.set_xscale("log")
    if choices:
        ax.set_xticks(range(len(choices)), [figure_text(str(choice)) for choice in choices])
    ax.set_xlabel(figure_text(name))
    ax.set_ylabel(objective_text(summary, 0))
    return ax


def draw_confirmed(summary: SearchSummary, ax: Axes) -> Axes:
    """One row per variant: its objective in the search, open, above its objective on new seeds, filled."""
    for place, row in enumerate(summary.confirmed):
        if row.searched.size:
            _row_bar(ax, place - 0.14, interval(summary.search, row.searched[0]), "#999999", "none")
        if np.isfinite(row.confirmed[0]).any():
            colour = BASELINE_COLOUR if not row.searched.size else COLOURS[0]
            _row_bar(ax, place + 0.14, interval(summary.search, row.confirmed[0]), colour, colour)
    ax.set_yticks(range(len(summary.confirmed)), [figure_text(row.name) for row in summary.confirmed])
    ax.set_ylim(len(summary.confirmed) - 0.5, -0.5)
    ax.set_xlabel(objective_text(summary, 0) + "\nopen: in the search; filled: on new seeds")
    return ax


def objective_text(summary: SearchSummary, index: int) -> str:
    """The axis label of an objective."""
    objective = summary.search.objective[index]
    if objective.name == "time_to_threshold":
        return f"steps to a return of {objective.threshold:g}"
    score = "final return" if objective.name == "iqm_final" else "return over all of training"
    return f"IQM of {score}" + (", scaled" if summary.search.scale else "")


def _optuna_figures(summary: SearchSummary) -> dict[str, Callable[[optuna.Study], Any]]:
    """Optuna's own figures for which this study has the data."""
    from optuna.visualization import matplotlib as figures

    several = len(summary.search.objective) > 1
    names = list(summary.search.space)
    if several:
        drawn: dict[str, Callable[[optuna.Study], Any]] = {}
        if len(summary.search.objective) == 2:
            drawn["pareto-front"] = lambda study: figures.plot_pareto_front(
                study, target_names=[objective.name for objective in summary.search.objective]
            )
        return drawn
    drawn = {
        "history": figures.plot_optimization_history,
        "slice": lambda study: figures.plot_slice(study, params=names),
        "timeline": figures.plot_timeline,
    }
    if summary.importance:
        drawn["importance"] = lambda study: figures.plot_param_importances(study)
    if len(names) > 1:
        drawn["parallel-coordinate"] = lambda study: figures.plot_parallel_coordinate(study, params=names)
    if summary.search.pruner != "none":
        drawn["rungs"] = figures.plot_intermediate_values
    return drawn


@contextmanager
def _optuna_style() -> Iterator[None]:
    """Optuna draws with pyplot and changes its style permanently; this restores it."""
    from matplotlib import pyplot as plt

    before = mpl.get_backend()
    plt.switch_backend("agg")
    with mpl.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "scorer"}):
        try:
            yield
        finally:
            plt.close("all")
    plt.switch_backend(before)


def _save_without_layout(figure: Figure, stem: Path, provenance: dict[str, Any]) -> list[Path]:
    """Save without our layout engine, which fails on some of Optuna's figures."""
    written = []
    for suffix in ("pdf", "png"):
        sink = io.BytesIO()
        metadata = {"CreationDate": None} if suffix == "pdf" else {}
        figure.savefig(sink, format=suffix, bbox_inches="tight", metadata=metadata)
        replace_file(path := stem.with_name(f"{stem.name}.{suffix}"), sink.getvalue())
        written.append(path)
    write_json(record := stem.with_name(f"{stem.name}.json"), provenance)
    return [*written, record]


def _bar(ax: Axes, x: float, found: Estimate, colour: str, marker: str, alpha: float, size: float) -> None:
    value, low, high = (float(number) for number in found)
    errors = [[max(value - low, 0)], [max(high - value, 0)]] if np.isfinite(low) else None
    ax.errorbar(
        [x], [value], yerr=errors, color=colour, marker=marker, markersize=size, alpha=alpha, capsize=0, elinewidth=1.0
    )


def _line(ax: Axes, xs: list[float], found: list[Estimate], connected: bool) -> None:
    value, low, high = (np.array([float(getattr(e, part)) for e in found]) for part in Estimate._fields)
    ax.plot(xs, value, color=COLOURS[0], marker="D", markersize=4, linestyle="-" if connected else "none", zorder=3)
    if connected:
        ax.fill_between(xs, low, high, color=COLOURS[0], alpha=BAND, linewidth=0)
    else:
        for x, estimate in zip(xs, found, strict=True):
            _bar(ax, x, estimate, COLOURS[0], "D", 1.0, 4.0)


def _row_bar(ax: Axes, y: float, found: Estimate, colour: str, face: str) -> None:
    value, low, high = (float(number) for number in found)
    errors = [[max(value - low, 0)], [max(high - value, 0)]] if np.isfinite(low) else None
    ax.errorbar([value], [y], xerr=errors, color=colour, marker="o", markersize=5, markerfacecolor=face, elinewidth=1.2)


def _trials_csv(summary: SearchSummary, path: Path) -> Path:
    sink = io.StringIO()
    objectives = [objective.name for objective in summary.search.objective]
    columns = [f"{name}{part}" for name in objectives for part in ("", "_low", "_high")]
    writer = csv.writer(sink)
    writer.writerow(["trial", "state", *summary.search.space, *columns, "note"])
    for row in summary.rows:
        values = [float(number) for estimate in row.estimates for number in estimate] or [""] * len(columns)
        writer.writerow(
            [row.number, row.state, *(row.point.get(n, "") for n in summary.search.space), *values, row.note]
        )
    replace_file(path, sink.getvalue().encode())
    return path
