"""report.html: one page without a network connection, for screens, phones and paper, with sortable tables."""

import base64
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from analysis import tables
from analysis.load import RunRow
from analysis.reported import against_reported
from analysis.sentences import against_random, answer, methods, table_notes
from analysis.statistics import AGGREGATE_NAMES, tolerance_content
from analysis.style import FORMATS
from analysis.summary import Summary, shown_aggregates
from analysis.text import format_estimate, format_time
from scorer_core.support.commands import command, shown_path
from scorer_core.verdicts import MEANINGS

ASSETS = Path(__file__).parent
TITLES = {
    "intervals": "Scores",
    "improvement": "Comparison with the baseline",
    "curves": "Learning curves",
    "profiles": "Performance profiles",
    "losses": "Losses and gradient norms",
    "diagnostics": "Diagnostics on a fixed probe batch",
}


def render(
    summary: Summary,
    images: Mapping[str, Path],
    captions: Mapping[str, str],
    warnings: Sequence[str],
    provenance: Mapping[str, Any],
) -> str:
    """The page as HTML.

    Args:
        summary: all numbers.
        images: PNG files by the name of the figure, in their order on the page.
        captions: what each figure shows, by name. The page states methods and caveats once, not in each caption.
        warnings: the texts of the caveats.
        provenance: the runs and settings, for the last section.
    """
    sweep = summary.results.sweep
    sections = [
        f"<header><h1>{_text(sweep.name)}</h1><p class=question>{_text(sweep.question)}</p>",
        f"<p>The paper: {_text(sweep.paper)}</p>" if sweep.paper else "",
        f"<p class=answer>{_text(answer(summary))}</p></header>",
        _list("Caveats", [*warnings, *summary.results.problems], "warnings"),
        _section("Results", _grid_table(tables.results_grid(summary)) + _note(table_notes(summary))),
        _section("Methods", _note(methods(summary))),
        *(_figure(name, images[name], captions[name]) for name in images),
        _list("Comparison with a random policy", against_random(summary), "random"),
        _section("All aggregates", _aggregates(summary)),
        _section("Time to threshold", _times(summary)) if summary.times else "",
        _list("Spread of individual runs", _tolerance(summary), "tolerance"),
        _reported(summary),
        _verdicts(summary),
        _section("Runs", _runs(summary)),
        _section("Reproduce this report", _reproduce(summary, provenance)),
    ]
    style = (ASSETS / "page.css").read_text(encoding="utf-8")
    script = (ASSETS / "page.js").read_text(encoding="utf-8")
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{_text(sweep.name)}: report</title><link rel=icon href=data:,><style>{style}</style></head>\n<body>"
        + "\n".join(section for section in sections if section)
        + f"\n<script>{script}</script></body></html>\n"
    )


def _text(value: Any) -> str:
    return html.escape(str(value))


def _section(title: str, body: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{body}</section>"


def _note(text: str) -> str:
    return f"<p class=note>{_text(text)}</p>"


def _list(title: str, sentences: Sequence[str], name: str) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
    return f"<section class={name}><h2>{_text(title)}</h2><ul>{items}</ul></section>"


def _figure(name: str, path: Path, caption: str) -> str:
    image = path.read_bytes()
    title = TITLES.get(name, f"Scores by {name.replace('-', ' and ')}")
    width = int.from_bytes(image[16:20], "big") * 110 // 200  # the width of the PNG in pixels, at 200 dots per inch
    source = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    available = [suffix for suffix in FORMATS if path.with_suffix(f".{suffix}").exists()]
    links = ", ".join(f'<a href="{_text(quote(name))}.{suffix}">{suffix.upper()}</a>' for suffix in available)
    return _section(
        title,
        f'<figure id="figure-{_text(name)}"><div class=across>'
        f'<img alt="{_text(title)}" width={width} src="{source}"></div>'
        f"<figcaption>{_text(caption)} {links}</figcaption></figure>",
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[tuple[str, Any]]], name: str) -> str:
    """Rows of (HTML, key to sort by); a key that is not a number sorts as text."""
    head = "".join(f'<th scope=col><button type=button title="sort">{_text(title)}</button></th>' for title in header)
    body = "".join(
        "<tr>" + "".join(f'<td data-key="{_text(key)}">{cell}</td>' for cell, key in row) + "</tr>" for row in rows
    )
    inside = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f"<div class=wide><table class=sortable id={name}>{inside}</table></div>"


def _grid_table(grid: tables.Grid) -> str:
    def cell(one: tables.Cell) -> tuple[str, str]:
        text = f"<strong>{_text(one.text)}</strong>" if one.best else _text(one.text)
        return text, one.text.partition(" [")[0]

    return _table(grid.header, [[cell(one) for one in row] for row in grid.rows], "results")


def _aggregates(summary: Summary) -> str:
    which = shown_aggregates(summary)
    rows = [
        [(_text(name), name)]
        + [(_text(format_estimate(found[aggregate])), float(found[aggregate].value)) for aggregate in which]
        for name, found in summary.aggregates.items()
    ]
    header = ["variant", *(AGGREGATE_NAMES[aggregate] for aggregate in which)]
    return _table(header, rows, "aggregates")


def _times(summary: Summary) -> str:
    rows = []
    for (name, task), found in summary.times.items():
        for one in found:
            steps = [(_text(name), name), (_text(summary.task_label(task)), task)]
            level = (f"{one.threshold:.4g}", one.threshold)
            reached = (f"{one.reached} of {one.runs}", one.reached / one.runs)
            rows.append([*steps, level, (format_time(one), float(one.steps.value)), reached])
    return _table(["variant", "task", "return", "steps to threshold (IQM)", "runs that reach it"], rows, "times")


def _tolerance(summary: Summary) -> list[str]:
    fewest = min(int(n) for name in summary.raw for n in summary.runs_of(name) if n)
    if fewest < 2:
        return []
    return [
        f"Confidence intervals are for the IQM, not for single runs. With {fewest} runs per variant and task, the "
        f"range from the lowest to the highest run covers at least {100 * tolerance_content(fewest):.0f} % of all "
        "possible runs (95 % confidence)."
    ]


def _reported(summary: Summary) -> str:
    """Our numbers next to published ones, if the sweep has any."""
    rows = []
    for cell in against_reported(summary):
        ours = ("–", float("nan")) if cell.ours is None else (_text(format_estimate(cell.ours)), float(cell.ours.value))
        theirs = f"{cell.theirs[0]:g} ± {cell.theirs[1]:g}", cell.theirs[0]
        overlap = {None: "–", True: "overlap", False: "no overlap"}[cell.overlaps]
        names = [(_text(value), value) for value in (cell.variant, summary.task_label(cell.task))]
        rows.append([*names, ours, theirs, (overlap, overlap), (_text(cell.source), cell.source)])
    header = ["variant", "task", "IQM here", "published IQM", "intervals", "source"]
    return _section("Comparison with published numbers", _table(header, rows, "reported")) if rows else ""


def _verdicts(summary: Summary) -> str:
    """The number of each variant's finished runs with each verdict, and the meaning of the verdicts."""
    found = summary.results.verdicts()
    if not found:
        return ""
    rows = [
        [(_text(name), name)]
        + [(f"{counts[verdict]} of {counts['runs']}", counts[verdict] / counts["runs"]) for verdict in MEANINGS]
        for name, counts in found.items()
    ]
    meanings = "".join(f"<li>{_text(verdict)}: {_text(meaning)}.</li>" for verdict, meaning in MEANINGS.items())
    status = "The status diverged in the table of runs means only that a parameter or loss became NaN or infinite."
    note = f"<ul class=note>{meanings}</ul>{_note(status)}"
    return _section("Run verdicts", _table(["variant", *MEANINGS], rows, "verdicts") + note)


def _runs(summary: Summary) -> str:
    header = ["variant", "task", "seed", "status", "verdicts", "final", "best", "AUC", "code version", "run"]
    return _table(header, [_run(summary, run) for run in summary.results.runs], "runs")


def _run(summary: Summary, run: RunRow) -> list[tuple[str, Any]]:
    scores = [("–" if np.isnan(score) else f"{score:.3g}", score) for score in run.scores.values()]
    link = _text(run.run_id)
    if run.folder is not None:
        attempts = os.path.relpath(run.folder / "attempts", summary.results.folder / "report")
        link = f'<a href="{_text(quote(attempts))}">{link}</a>'
    status = run.status if run.diverged_at is None else f"{run.status} at {run.diverged_at:,}"
    names = [(_text(value), value) for value in (run.variant, summary.task_label(run.task), run.seed, status)]
    names.append((_text(", ".join(run.verdicts) or "–"), " ".join(run.verdicts)))
    return [*names, *scores, (_text(run.code_version or "–"), run.code_version), (link, run.run_id)]


def _reproduce(summary: Summary, provenance: Mapping[str, Any]) -> str:
    known = {key.replace("_", " "): value for key, value in provenance.items() if value not in ("", [])}
    texts = {key: ", ".join(value) if isinstance(value, list) else value for key, value in known.items()}
    facts = "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in texts.items())
    folder = shown_path(summary.results.folder)
    retrain = command("run", f"{folder}/sweep.yaml", "--outputs", "again")
    return (
        f"<p>From the same records: <code>{_text(command('report', folder))}</code>. If the sweep's folder was moved, "
        "in the folder of this page: <code>scorer report ..</code>. To train all runs again, in the new folder "
        f"<code>again</code>, at the commit below: <code>{_text(retrain)}</code>. Equal seeds give equal numbers. "
        f"<a href=table.csv>table.csv</a> has all numbers at full precision.</p><dl>{facts}</dl>"
    )
