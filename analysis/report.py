"""Write the report of a sweep: figures, tables, captions and a page under report/. Each file is replaced atomically."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import tables
from analysis.caveats import caveats
from analysis.load import REPORTED, ReportError, load_results
from analysis.page import render
from analysis.report_figures import figure_builders
from analysis.sentences import against_random, answer, nothing_to_report, table_caption
from analysis.style import FORMATS, Saver, Venue, styled
from analysis.summary import Settings, Summary, summarize
from scorer_core.identity import digest
from scorer_core.support.files import replace_file

# From this many variants x tasks on, saving the figures takes longer than starting other processes for it.
CELLS_FOR_PROCESSES = 20


class StrictError(ReportError):
    """A strict report was requested, and there is a serious caveat."""


@dataclass(frozen=True)
class Report:
    """The result of `make_report`."""

    folder: Path
    files: list[Path]
    table: tables.Grid
    title: str  # of the table
    answer: str
    against_random: list[str]  # one sentence per task: which variants are above a random policy
    warnings: list[str]
    page: Path | None  # report.html; None if only one figure was drawn


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
    """Read the sweep in `folder` (outputs/<sweep>) and write `folder/report/`.

    Args:
        folder: outputs/<sweep>.
        settings: scores, normalization and bootstrap.
        figure: the name of the only figure to draw; by default everything is written.
        venue: the width of the figures.
        formats: of the figures; a PNG is always written, because the page shows it.
        strict: fail if there is a serious caveat.
        overrides: KEY=VALUE changes of the sweep's definition (analysis/load.py).

    Raises:
        ReportError: if there is nothing to report on (no definition, no finished run), or no such figure.
        StrictError: if `strict` and there is a serious caveat; nothing is written then.
        RecordError: if a file cannot be written.
    """
    results = load_results(folder, REPORTED, overrides)
    cells = len(results.sweep.grid_variants) * len(results.sweep.tasks)
    with Saver(processes=cells >= CELLS_FOR_PROCESSES) as saver:
        return _report(summarize(results, settings), saver, figure, venue, formats, strict)


def _report(
    summary: Summary, saver: Saver, figure: str | None, venue: Venue, formats: Sequence[str], strict: bool
) -> Report:
    folder = summary.results.folder
    if not summary.raw:
        raise ReportError(nothing_to_report(summary.results))
    found = caveats(summary)
    if strict and (serious := [caveat.text for caveat in found if caveat.serious]):
        raise StrictError(f"{folder}: " + " ".join(serious))
    builders = figure_builders(summary)
    if figure is not None and figure not in builders:
        raise ReportError(f"{figure}: not a figure of this sweep; choose from: {', '.join(builders)}")
    warnings = [caveat.text for caveat in found]
    target = folder / "report"
    names = [figure] if figure else list(builders)
    captions = dict.fromkeys(names, "")  # of the page, which states methods and caveats once
    full = dict.fromkeys(names, "")  # of the files
    with styled():
        for name in reversed(names):  # the last have the most panels; they are saved while the others are drawn
            drawn = builders[name](summary, venue)
            captions[name] = drawn.caption
            full[name] = " ".join([drawn.caption, drawn.method, *warnings])
            saver.save(drawn.figure, target / name, provenance(summary, full[name]), dict.fromkeys([*formats, "png"]))
    written = []
    page = None
    if figure is None:
        full["table"] = table_caption(summary, warnings)
        written += _write_tables(summary, target, full["table"])
        text = "\n".join(f"**{name}**: {caption}\n" for name, caption in full.items())
        replace_file(target / "captions.md", text.encode())
        saver.written()  # the page shows the figures
        page = target / "report.html"
        images = {name: target / f"{name}.png" for name in names}
        content = render(summary, images, captions, warnings, provenance(summary, ""))
        replace_file(page, content.encode())
        written += [target / "captions.md", page]
    title = f"{summary.results.sweep.name}: IQM with 95 % confidence intervals"
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


def provenance(summary: Summary, caption: str) -> dict[str, Any]:
    """The runs and settings behind a figure or table: enough to reproduce it."""
    runs = sorted(run.run_id for run in summary.results.runs if run.scored)
    return {
        "sweep": summary.results.sweep.name,
        "caption": caption,
        "runs": len(runs),
        "run_ids_hash": digest(runs),
        "code_versions": sorted({run.code_version for run in summary.results.runs if run.code_version}),
        "devices": list(summary.results.devices),
        "score": summary.settings.score,
        "normalization": summary.normalization.scheme,
        "scale_hash": summary.normalization.reference_hash,
        "bootstrap_seed": summary.settings.bootstrap_seed,
        "reps": summary.settings.reps,
        "curve_reps": summary.settings.curve_reps,
        "few_seeds_correction": summary.settings.few_seeds_correction,
    }


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
