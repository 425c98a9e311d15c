"""The results table: one grid of cells, written as CSV, LaTeX (booktabs), Markdown, and for the terminal."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.table import Table as RichTable
from rich.text import Text

from analysis.statistics import Estimate
from analysis.summary import Summary, shown, shown_aggregates


@dataclass(frozen=True)
class Cell:
    text: str
    best: bool = False  # highest in its column, and its interval meets no other's


@dataclass(frozen=True)
class Grid:
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def results_grid(summary: Summary) -> Grid:
    """A row a variant: its runs, its IQM on each task and over all, and how it compares with its baseline."""
    columns: list[tuple[str, dict[str, Cell]]] = []
    for task in summary.tasks:
        found = {name: summary.per_task[name, task] for name in summary.raw if (name, task) in summary.per_task}
        columns.append((short_task(task), _estimates(found)))
    if len(summary.tasks) > 1:
        overall = {name: aggregates["iqm"] for name, aggregates in summary.aggregates.items()}
        columns.append(("all tasks", _estimates(overall)))
    if summary.comparisons:
        compared = summary.comparison_of
        columns.append(("vs baseline", {name: Cell(shown(c.family)) for name, c in compared.items()}))
        columns.append(("P(better)", {name: Cell(shown(c.improvement)) for name, c in compared.items()}))
    rows = []
    for name in summary.results.variants:
        runs = summary.runs_of(name) if name in summary.raw else [0]
        count = f"{min(runs)}" if min(runs) == max(runs) else f"{min(runs)}-{max(runs)}"
        rows.append((Cell(name), Cell(count), *(cells.get(name, Cell("–")) for _, cells in columns)))
    return Grid(("variant", "seeds", *(title for title, _ in columns)), tuple(rows))


def _estimates(found: dict[str, Estimate]) -> dict[str, Cell]:
    best = max(found, key=lambda name: float(found[name].value), default=None)
    clear = best is not None and all(found[best].separate(other) for name, other in found.items() if name != best)
    return {name: Cell(shown(one), clear and name == best and len(found) > 1) for name, one in found.items()}


def short_task(task: str) -> str:
    """`minatar/space_invaders` -> `space invaders`."""
    return task.rpartition("/")[2].replace("_", " ")


def markdown(grid: Grid) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    body = [line([f"**{cell.text}**" if cell.best else cell.text for cell in row]) for row in grid.rows]
    return "\n".join([line(grid.header), line(["---"] * len(grid.header)), *body]) + "\n"


def latex(grid: Grid, caption: str, label: str) -> str:
    """A table environment that needs booktabs and nothing else."""
    rows = [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in grid.rows]
    header = " & ".join(escape_latex(title) for title in grid.header)
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"  \centering\small",
            rf"  \caption{{{escape_latex(caption)}}}",
            rf"  \label{{tab:{label}}}",
            rf"  \begin{{tabular}}{{@{{}}l{'r' * (len(grid.header) - 1)}@{{}}}}",
            r"    \toprule",
            rf"    {header} \\",
            r"    \midrule",
            *(f"    {row}" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    value, bracket, bounds = text.partition(" [")
    if bracket:
        value = rf"\textbf{{{value}}}" if cell.best else value
        return rf"{value} {{\scriptsize [{bounds}}}"
    return text


def escape_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"}
    special |= {character: "\\" + character for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def rich_table(grid: Grid, title: str) -> RichTable:
    """For the terminal: an estimate's interval stands under it, which keeps five tasks within a window."""
    table = RichTable(title=title, title_justify="left", box=SIMPLE, show_edge=False, pad_edge=False)
    for place, name in enumerate(grid.header):
        table.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
    for row in grid.rows:
        table.add_row(*(Text(cell.text.replace(" [", "\n["), style="bold" if cell.best else "") for cell in row))
    return table


def tidy_csv(summary: Summary) -> str:
    """Every estimate at full precision: a row each, long format. `task` is empty for what joins all tasks."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["variant", "task", "runs", "statistic", "value", "low", "high", "random", "against_random"])
    for (name, task), found in summary.per_task.items():
        runs = summary.runs_of(name)[summary.tasks.index(task)]
        random = summary.random[task]
        known = ["" if random is None else random, summary.standing[name, task]]
        writer.writerow([name, task, runs, "iqm_return", *_numbers(found), *known])
    unit = "return" if summary.normalisation.scheme == "none" else "normalised"
    for name, aggregates in summary.aggregates.items():
        runs = summary.runs_of(name).sum()
        for aggregate in shown_aggregates(summary):
            writer.writerow([name, "", runs, f"{aggregate}_{unit}", *_numbers(aggregates[aggregate]), "", ""])
    for comparison in summary.comparisons:
        for statistic, found in (
            ("iqm_difference", comparison.difference),
            ("iqm_difference_family_wise", comparison.family),
            ("probability_of_improvement", comparison.improvement),
        ):
            label = f"{statistic}_to_{comparison.baseline}"
            writer.writerow([comparison.variant, "", comparison.pairs, label, *_numbers(found), "", ""])
    for (name, task), times in summary.times.items():
        for time in times:
            label = f"steps_to_return_{time.threshold:g}"
            writer.writerow([name, task, time.runs, label, *_numbers(time.steps), "", ""])
    return sink.getvalue()


def _numbers(found: Estimate) -> list[str]:
    return ["" if math.isnan(number) else repr(float(number)) for number in found]
