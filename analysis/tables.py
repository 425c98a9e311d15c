"""The results table: one grid of cells, as Markdown and LaTeX (booktabs), and all numbers as CSV."""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.statistics import Estimate
from analysis.summary import Summary, shown_aggregates
from analysis.text import format_estimate

NO_RESULT = "–"  # the text of a cell without a finished run


@dataclass(frozen=True)
class Cell:
    """The text of one cell."""

    text: str
    best: bool = False  # highest in its column, and its interval overlaps no other


@dataclass(frozen=True)
class Grid:
    """The results table as text."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def results_grid(summary: Summary) -> Grid:
    """One row per variant: its seeds, its IQM on each task and over all tasks, and its comparison with the baseline."""
    columns: list[tuple[str, dict[str, Cell]]] = []
    for task in summary.tasks:
        found = {name: summary.per_task[name, task] for name in summary.raw if (name, task) in summary.per_task}
        columns.append((summary.task_label(task), _estimates(found)))
    if len(summary.tasks) > 1:
        overall = {name: aggregates["iqm"] for name, aggregates in summary.aggregates.items()}
        columns.append(("all tasks", _estimates(overall)))
    if summary.comparisons:
        compared = summary.comparison_of
        columns.append(("vs baseline", {name: Cell(format_estimate(c.simultaneous)) for name, c in compared.items()}))
        columns.append(("result", {name: Cell(c.result) for name, c in compared.items()}))
        columns.append(("P(better)", {name: Cell(format_estimate(c.improvement)) for name, c in compared.items()}))
    counts = {}
    for name in summary.results.variants:
        runs = summary.runs_of(name) if name in summary.raw else [0]
        counts[name] = f"{min(runs)}" if min(runs) == max(runs) else f"{min(runs)}-{max(runs)}"
    if len(set(counts.values())) > 1:  # otherwise the caption states it
        columns.insert(0, ("seeds", {name: Cell(count) for name, count in counts.items()}))
    rows = [(Cell(name), *(cells.get(name, Cell(NO_RESULT)) for _, cells in columns)) for name in counts]
    return Grid(("variant", *(title for title, _ in columns)), tuple(rows))


def _estimates(found: dict[str, Estimate]) -> dict[str, Cell]:
    best = max(found, key=lambda name: float(found[name].value), default=None)
    clear = best is not None and all(found[best].separate(other) for name, other in found.items() if name != best)
    return {name: Cell(format_estimate(one), clear and name == best and len(found) > 1) for name, one in found.items()}


def markdown(grid: Grid) -> str:
    """A Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    def written(cell: Cell) -> str:
        return f"**{escape_markdown(cell.text)}**" if cell.best else escape_markdown(cell.text)

    header = [escape_markdown(title) for title in grid.header]
    body = [line([written(cell) for cell in row]) for row in grid.rows]
    return "\n".join([line(header), line(["---"] * len(header)), *body]) + "\n"


def latex(grid: Grid, caption: str, label: str) -> str:
    """A LaTeX table environment: intervals below estimates, scaled down if too wide. Needs booktabs and graphicx."""
    header = " & ".join(escape_latex(title) for title in grid.header)
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"  \centering\small",
            rf"  \caption{{{escape_latex(caption)}}}",
            rf"  \label{{tab:{_LABEL.sub('-', label)}}}",
            r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"  \begin{{tabular}}{{@{{}}l{'r' * (len(grid.header) - 1)}@{{}}}}",
            r"    \toprule",
            rf"    {header} \\",
            r"    \midrule",
            *(f"    {line}" for row in grid.rows for line in _latex_lines(row)),
            r"    \bottomrule",
            r"  \end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _latex_lines(row: Sequence[Cell]) -> list[str]:
    """A line of estimates and, if there are any, a line of their intervals."""
    name, *cells = row
    first = escape_latex(name.text)
    # After \\ of the line above, LaTeX would read [ as the start of an optional argument and * as the starred form.
    values, intervals = ["{}" + first if first.lstrip()[:1] in ("[", "*") else first], [""]
    for cell in cells:
        value, bounds = split_interval(cell.text)
        values.append(rf"\textbf{{{escape_latex(value)}}}" if cell.best else escape_latex(value))
        intervals.append(rf"{{\scriptsize {bounds}}}" if bounds else "")
    if not any(intervals):
        return [" & ".join(values) + r" \\"]
    return [" & ".join(values) + r" \\[-2pt]", " & ".join(intervals).strip() + r" \\"]


def split_interval(text: str) -> tuple[str, str]:
    """An estimate and its interval in brackets; the interval may be empty."""
    value, bracket, bounds = text.partition(" [")
    return value, bracket.strip() + bounds


def escape_markdown(text: str) -> str:
    """`text` without Markdown formatting."""
    return re.sub(r"([\\`*_|<&])", r"\\\1", text)


_LABEL = re.compile(r"[^A-Za-z0-9._-]+")  # characters that \label does not allow
_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi"
_GREEK += " omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
_MATHEMATICS = dict(zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ", _GREEK.split(), strict=True))
_MATHEMATICS |= {
    "µ": "mu", "×": "times", "±": "pm", "≤": "leq", "≥": "geq", "≠": "neq", "≈": "approx", "∞": "infty",
    "→": "rightarrow", "←": "leftarrow", "·": "cdot", "−": "mbox{-}",
}  # fmt: skip
_SPECIAL = {
    **{character: "\\" + character for character in "&%$#_{}"},
    **{character: rf"\ensuremath{{\{command}}}" for character, command in _MATHEMATICS.items()},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "–": "--", "—": "---", "…": r"\dots{}", "\u00a0": " ",
    "‘": "`", "’": "'", "“": "``", "”": "''", "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "ø": r"\o{}", "Ø": r"\O{}",
    "ł": r"\l{}", "Ł": r"\L{}", "œ": r"\oe{}", "Œ": r"\OE{}", "\n": " ", "\t": " ",
}  # fmt: skip
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
            "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c"}  # fmt: skip


def escape_latex(text: str) -> str:
    """`text` for LaTeX with its default fonts. A character that these lack is written as its code point, U+4E2D."""
    return "".join(map(_escape_character, unicodedata.normalize("NFC", text)))


def _escape_character(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if " " <= character <= "~":
        return character
    letter, *accents = unicodedata.normalize("NFD", character)
    if letter.isascii() and len(accents) == 1 and accents[0] in _ACCENTS:
        return rf"\{_ACCENTS[accents[0]]}{{{letter}}}"
    return rf"\texttt{{U+{ord(character):04X}}}"


def tidy_csv(summary: Summary) -> str:
    """Every estimate at full precision, long format: one row per estimate. `task` is empty for all tasks together."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(
        ["variant", "task", "runs", "statistic", "value", "low", "high", "random", "against_random", "result"]
    )
    for (name, task), found in summary.per_task.items():
        runs = summary.runs_of(name)[summary.tasks.index(task)]
        random = summary.random[task]
        known = ["" if random is None else random, summary.against_random[name, task], ""]
        writer.writerow([name, task, runs, "iqm_return", *_numbers(found), *known])
    unit = "return" if summary.normalization.scheme == "none" else "normalized"
    for name, aggregates in summary.aggregates.items():
        runs = summary.runs_of(name).sum()
        for aggregate in shown_aggregates(summary):
            writer.writerow([name, "", runs, f"{aggregate}_{unit}", *_numbers(aggregates[aggregate]), "", "", ""])
    for comparison in summary.comparisons:
        for statistic, found, result in (
            ("iqm_difference", comparison.difference, ""),
            ("iqm_difference_simultaneous", comparison.simultaneous, comparison.no_claim or comparison.result),
            ("probability_of_improvement", comparison.improvement, ""),
        ):
            label = f"{statistic}_to_{comparison.baseline}"
            writer.writerow([comparison.variant, "", comparison.pairs, label, *_numbers(found), "", "", result])
    for (name, task), times in summary.times.items():
        for time in times:
            label = f"steps_to_return_{time.threshold:g}"
            writer.writerow([name, task, time.runs, label, *_numbers(time.steps), "", "", ""])
    return sink.getvalue()


def _numbers(found: Estimate) -> list[str]:
    return ["" if math.isnan(number) else repr(float(number)) for number in found]
