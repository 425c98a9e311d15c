"""report.html: one page that needs no network, reads on a phone, prints, and whose tables sort."""

import base64
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from analysis import tables
from analysis.curves import TimeToThreshold
from analysis.load import RunRow
from analysis.reported import against_reported
from analysis.statistics import AGGREGATE_NAMES, tolerance_content
from analysis.style import FORMATS
from analysis.summary import Summary, answer, format_estimate, shown_aggregates
from scorer_core.support.commands import command, shown_path
from scorer_core.verdicts import MEANINGS

ASSETS = Path(__file__).parent
TITLES = {
    "intervals": "How high each variant scores",
    "improvement": "Against the baseline",
    "curves": "Learning curves",
    "profiles": "Performance profiles",
    "diagnostics": "Diagnostics",
    "instruments": "Instruments, on a probe batch that stays the same",
}


def render(
    summary: Summary,
    images: Mapping[str, Path],
    captions: Mapping[str, str],
    warnings: Sequence[str],
    against_random: Sequence[str],
    provenance: Mapping[str, Any],
) -> str:
    """The page as HTML; `images` are PNG files by figure name."""
    sweep = summary.results.sweep
    sections = [
        f"<header><h1>{_text(sweep.name)}</h1><p class=question>{_text(sweep.question)}</p>",
        f"<p>The paper: {_text(sweep.paper)}</p>" if sweep.paper else "",
        f"<p class=answer>{_text(answer(summary))}</p></header>",
        _list("What weakens this", [*warnings, *summary.results.problems], "warnings"),
        _section("Results", _grid_table(tables.results_grid(summary)) + _note(captions["table"])),
        *(_figure(name, images[name], captions[name]) for name in images),
        _list("Against a random policy", against_random, "random"),
        _section("All aggregates", _aggregates(summary)),
        _section("Time to a threshold", _times(summary)) if summary.times else "",
        _list("What these seeds can speak for", _tolerance(summary), "tolerance"),
        _reported(summary),
        _verdicts(summary),
        _section("Every run", _runs(summary)),
        _section("How to make this again", _again(summary, provenance)),
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
    title = TITLES.get(name, f"Along {name.replace('-', ' and ')}")
    width = int.from_bytes(image[16:20], "big") * 110 // 200  # the PNG's own, at 200 dots an inch
    source = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    there = [suffix for suffix in FORMATS if path.with_suffix(f".{suffix}").exists()]
    links = ", ".join(f'<a href="{_text(quote(name))}.{suffix}">{suffix.upper()}</a>' for suffix in there)
    return _section(
        title,
        f'<figure id="figure-{_text(name)}"><div class=across>'
        f'<img alt="{_text(title)}" width={width} src="{source}"></div>'
        f"<figcaption>{_text(caption)} {links}</figcaption></figure>",
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[tuple[str, Any]]], name: str) -> str:
    """Rows of (HTML, key to sort by); a key that is no number sorts as text."""
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
    return _table(header, rows, "aggregates") + _note(summary.normalisation.caption)


def _times(summary: Summary) -> str:
    rows = []
    for (name, task), found in summary.times.items():
        for one in found:
            steps = [(_text(name), name), (_text(summary.task_label(task)), task)]
            level = (f"{one.threshold:.4g}", one.threshold)
            reached = (f"{one.reached} of {one.runs}", one.reached / one.runs)
            rows.append([*steps, level, (time_text(one), float(one.steps.value)), reached])
    return _table(["variant", "task", "return", "steps until the IQM is there", "runs that get there"], rows, "times")


def time_text(time: TimeToThreshold) -> str:
    """`1.2M [1.0M, 1.5M]`; `never` for an end that is infinite."""
    value, low, high = (_steps(float(number)) for number in time.steps)
    return value if np.isnan(time.steps.low) else f"{value} [{low}, {high}]"


def _steps(number: float) -> str:
    if not np.isfinite(number):
        return "never"
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"


def _tolerance(summary: Summary) -> list[str]:
    fewest = min(int(n) for name in summary.raw for n in summary.runs_of(name) if n)
    if fewest < 2:
        return []
    share = tolerance_content(fewest)
    return [
        f"Intervals speak of the IQM over runs, not of single runs. With {fewest} runs of a variant on a task, the "
        "range from its lowest to its highest run holds, with 95 % confidence, at least "
        f"{100 * share:.0f} % of all such runs."
    ]


def _reported(summary: Summary) -> str:
    """Ours beside theirs, where the sweep holds numbers that others reported."""
    rows = []
    for cell in against_reported(summary):
        ours = ("–", float("nan")) if cell.ours is None else (_text(format_estimate(cell.ours)), float(cell.ours.value))
        theirs = f"{cell.theirs[0]:g} ± {cell.theirs[1]:g}", cell.theirs[0]
        meets = {None: "–", True: "intervals meet", False: "apart"}[cell.meets]
        names = [(_text(value), value) for value in (cell.variant, summary.task_label(cell.task))]
        rows.append([*names, ours, theirs, (meets, meets), (_text(cell.source), cell.source)])
    header = ["variant", "task", "ours, IQM", "reported", "", "source"]
    return _section("Against reported numbers", _table(header, rows, "reported")) if rows else ""


def _verdicts(summary: Summary) -> str:
    """The share of each variant's finished runs that earned each verdict, and what the verdicts mean."""
    found = summary.results.verdicts()
    if not found:
        return ""
    shares = [
        [(_text(name), name)]
        + [(f"{counts[verdict]} of {counts['runs']}", counts[verdict] / counts["runs"]) for verdict in MEANINGS]
        for name, counts in found.items()
    ]
    meanings = " ".join(f"{verdict.capitalize()}: {meaning}." for verdict, meaning in MEANINGS.items())
    return _section("What is wrong with the runs", _table(["variant", *MEANINGS], shares, "verdicts") + _note(meanings))


def _runs(summary: Summary) -> str:
    header = ["variant", "task", "seed", "status", "verdicts", "final", "best", "AUC", "code", "run"]
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
    return [*names, *scores, (_text(run.code or "–"), run.code), (link, run.run_id)]


def _again(summary: Summary, provenance: Mapping[str, Any]) -> str:
    told = {key.replace("_", " "): value for key, value in provenance.items() if value not in ("", [])}
    texts = {key: ", ".join(value) if isinstance(value, list) else value for key, value in told.items()}
    facts = "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in texts.items())
    folder = shown_path(summary.results.folder)
    nothing = command("run", f"{folder}/sweep.yaml", "--outputs", "again")
    return (
        f"<p>From the same records: <code>{_text(command('report', folder))}</code>; if the sweep's folder was moved "
        "since, in the folder of this page: <code>scorer report ..</code>. From nothing, into the new folder "
        f"<code>again</code>: <code>{_text(nothing)}</code> at the commit below. Equal seeds give equal numbers; "
        f"every number stands at full precision in <a href=table.csv>table.csv</a>.</p><dl>{facts}</dl>"
    )
