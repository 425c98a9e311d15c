"""A sweep's folder becomes its report: figures, tables and captions under report/, each file replaced whole."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import caveats as honesty
from analysis import tables
from analysis.load import ReportError, Results, load_results
from analysis.page import render
from analysis.report_figures import DIAGNOSTICS, LOSSES, figure_builders
from analysis.style import FORMATS, Saver, Venue, styled
from analysis.summary import Settings, Summary, answer, format_estimate, hints, method, score_text, summarise
from scorer_core.identity import digest
from scorer_core.support.files import replace_file

# Variants times tasks from which on drawing the figures takes longer than starting processes to draw them in.
CELLS_TO_SAVE_BESIDE = 20
NAMED = 4  # variants in a sentence


class StrictError(ReportError):
    """The report would have to warn of something serious, and was asked not to be made then."""


@dataclass(frozen=True)
class Report:
    """What `make_report` made."""

    folder: Path
    files: list[Path]
    table: tables.Grid
    title: str  # of the table
    answer: str
    against_random: list[str]  # a sentence for each task: which variants are above a random policy
    warnings: list[str]
    page: Path | None  # report.html; None where one figure was asked for


def make_report(
    folder: Path,
    settings: Settings | None = None,
    *,
    figure: str | None = None,
    venue: Venue = "page",
    formats: Sequence[str] = FORMATS,
    strict: bool = False,
    overrides: Sequence[str] = (),
) -> Report:
    """Read the sweep in `folder` (outputs/<sweep>) and write `folder/report/`: everything, or one `figure` by name.

    `overrides` are of its definition (analysis/load.py).

    Raises:
        ReportError: if there is nothing to report on (no definition, no finished run), or no such figure.
        StrictError: if `strict`, and something serious would have to be warned of; nothing is written then.
        RecordError: if a file cannot be written.
    """
    results = load_results(folder, ("return", *LOSSES, *DIAGNOSTICS), overrides)
    cells = len(results.sweep.grid_variants) * len(results.sweep.tasks)
    with Saver(beside=cells >= CELLS_TO_SAVE_BESIDE) as saver:
        return _report(summarise(results, settings), saver, figure, venue, formats, strict)


def _report(
    summary: Summary, saver: Saver, figure: str | None, venue: Venue, formats: Sequence[str], strict: bool
) -> Report:
    folder = summary.results.folder
    if not summary.raw:
        raise ReportError(_nothing(summary.results))
    cautions = honesty.caveats(summary)
    if strict and (serious := [caution.text for caution in cautions if caution.serious]):
        raise StrictError(f"{folder}: " + " ".join(serious))
    makers = figure_builders(summary)
    if figure is not None and figure not in makers:
        raise ReportError(f"{figure}: no such figure for this sweep; there is {', '.join(makers)}")
    warnings = [caution.text for caution in cautions]
    target = folder / "report"
    names = [figure] if figure else list(makers)
    captions = dict.fromkeys(names, "")
    with styled():
        for name in reversed(names):  # the last have the most panels, and are saved while the others are drawn
            plate = makers[name](summary, venue)
            captions[name] = " ".join([plate.caption, *warnings])
            made = provenance(summary, captions[name])
            # The page shows the PNG, whatever the formats asked for.
            saver.save(plate.figure, target / name, made, dict.fromkeys([*formats, "png"]))
    written = []
    page = None
    if figure is None:
        captions["table"] = _table_caption(summary, warnings)
        written += _write_tables(summary, target, captions["table"])
        text = "\n".join(f"**{name}**: {caption}\n" for name, caption in captions.items())
        replace_file(target / "captions.md", text.encode())
        saver.written()  # the page shows the figures
        page = target / "report.html"
        images = {name: target / f"{name}.png" for name in names}
        content = render(summary, images, captions, warnings, against_random(summary), provenance(summary, ""))
        replace_file(page, content.encode())
        written += [target / "captions.md", page]
    title = f"{summary.results.sweep.name}: IQM with 95 % intervals"
    return Report(
        folder=target,
        files=[*saver.written(), *written],
        table=tables.results_grid(summary),
        title=title,
        answer=answer(summary),
        against_random=against_random(summary),
        warnings=[*warnings, *summary.results.problems],
        page=page,
    )


def _nothing(results: Results) -> str:
    counts = results.count()
    told = "".join(f"\n  {problem}" for problem in results.problems[:5])
    without = sum(run.status in ("done", "diverged") and not run.scored for run in results.runs)
    if without:
        told = f"; {without} finished without a score: no episode ended, or a reward was not finite{told}"
    return (
        f"{results.folder}: no finished run to report on; of {len(results.runs)} runs {counts['missing']} are missing, "
        f"{counts['partial']} not finished, {counts['diverged']} diverged{told}"
    )


def against_random(summary: Summary) -> list[str]:
    """For each task, what the intervals say of every variant against a random policy."""
    said = []
    for task in summary.tasks:
        random = summary.random[task]
        if random is None:
            said.append(f"{summary.task_label(task)}: no random policy has been measured on {task}.")
            continue
        groups: dict[str, list[str]] = {}
        for name in summary.raw:
            if (name, task) in summary.standing:
                groups.setdefault(summary.standing[name, task], []).append(name)
        told = "; ".join(f"{standing} it: {_named(summary, names, task)}" for standing, names in groups.items())
        said.append(f"{summary.task_label(task)}, IQM against a random policy's return of {random:g}: {told}.")
    return said


def _named(summary: Summary, names: Sequence[str], task: str) -> str:
    """Each with its IQM, or how many they are and between what."""
    if len(names) <= NAMED:
        return ", ".join(f"{name} {format_estimate(summary.per_task[name, task])}" for name in names)
    every = "all " if len(names) == len(summary.raw) else ""
    lowest, highest = (pick(float(summary.per_task[name, task].value) for name in names) for pick in (min, max))
    return f"{every}{len(names)} variants, from {lowest:.3g} to {highest:.3g}"


def provenance(summary: Summary, caption: str) -> dict[str, Any]:
    """What a figure or table was made from: enough to make it again."""
    runs = sorted(run.run_id for run in summary.results.runs if run.scored)
    return {
        "sweep": summary.results.sweep.name,
        "caption": caption,
        "runs": len(runs),
        "run_ids_hash": digest(runs),
        "code": sorted({run.code for run in summary.results.runs if run.code}),
        "score": summary.settings.score,
        "normalisation": summary.normalisation.scheme,
        "scale_hash": summary.normalisation.reference_hash,
        "bootstrap_seed": summary.settings.seed,
        "replications": summary.settings.replications,
        "curve_replications": summary.settings.curve_replications,
        "few_seeds_correction": summary.settings.few_seeds_correction,
    }


def _table_caption(summary: Summary, warnings: Sequence[str]) -> str:
    return " ".join(
        [
            f"{summary.results.sweep.question} IQM over {summary.runs_text} seeds a task, with",
            f"{method(summary, summary.settings.replications)}.",
            "Bold: the highest, where its interval meets no other's.",
            score_text(summary),
            *_scale_text(summary),
            *_family_text(summary),
            *warnings,
        ]
    )


def _write_tables(summary: Summary, folder: Path, caption: str) -> list[Path]:
    grid = tables.results_grid(summary)
    contents = {
        "table.csv": tables.tidy_csv(summary),
        "table.md": f"{tables.markdown(grid)}\n{caption}\n",
        "table.tex": tables.latex(grid, caption, summary.results.sweep.name),
        "table.json": json.dumps(provenance(summary, caption), indent=1, sort_keys=True) + "\n",
    }
    for name, content in contents.items():
        replace_file(folder / name, content.encode())
    return [folder / name for name in contents]


def _scale_text(summary: Summary) -> list[str]:
    if summary.normalisation.scheme == "none":
        return []
    return [
        f"Tasks are in returns; what joins them is normalised, and so are differences. {summary.normalisation.caption}"
    ]


def _family_text(summary: Summary) -> list[str]:
    count = len(summary.comparisons)
    if not count:
        return []
    return [
        f"Differences are paired by seed; their intervals hold for all {count} comparisons together (max-t); "
        "those of P(better) stand alone.",
        *hints(summary),
    ]
