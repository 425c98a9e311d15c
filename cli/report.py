"""Commands on results: report, import."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.text import Text

from analysis.choices import CURVE_REPS, REPS, Format, Scheme, Score, Venue
from cli.console import DEFAULT_OUTPUTS, USAGE, exit_with_error, out
from cli.help import App
from cli.options import Everything, Outputs, Overrides, SweepArgument
from cli.summary import more, shown_of
from cli.trained import exit_on_report_error, trained_folder
from scorer_core.support.commands import shown_path
from scorer_core.support.text import count

app = App()
COLUMN = "COLUMN|=VALUE"


# Old spellings of options; the help does not list them.
RENAMED = {
    "curve-replications": "curve-reps",
    "correction": "few-seeds-correction",
    "for": "venue",
    "no-correction": "no-few-seeds-correction",
    "no-simultaneous": "no-simultaneous-bands",
    "normalise": "normalize",
    "replications": "reps",
    "seed": "bootstrap-seed",
    "simultaneous": "simultaneous-bands",
}


@app.command(
    epilog="Example: scorer report quickstart --figure intervals --venue iclr",
    context_settings={"token_normalize_func": lambda name: RENAMED.get(name, name)},
)
def report(
    sweep: SweepArgument,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    figure: Annotated[
        str | None, typer.Option(metavar="NAME", help="Draw only this figure; docs/results.md lists the names.")
    ] = None,
    venue: Annotated[
        Venue,
        typer.Option(
            metavar="VENUE",
            help="Use the text width of this LaTeX template; choose from: page, iclr, neurips, icml, twocolumn.",
        ),
    ] = "page",
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Write figures in this format; choose from: pdf, svg, png (default: all). Repeatable.",
        ),
    ] = None,
    score: Annotated[
        Score,
        typer.Option(
            metavar="SCORE",
            help="Compare runs by this score; choose from: final (mean return over the last 10 % of training), best "
            "(highest logged return), auc (mean return over all of training).",
        ),
    ] = "final",
    normalize: Annotated[
        Scheme | None,
        typer.Option(
            metavar="SCHEME",
            help="Normalize scores across tasks; choose from: references, baseline, paper, none (default: references "
            "for several tasks, none for one).",
        ),
    ] = None,
    bootstrap_seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the bootstrap.")] = 0,
    reps: Annotated[
        int, typer.Option(min=100, metavar="N", help="Number of bootstrap repetitions for tables and bars.")
    ] = REPS,
    curve_reps: Annotated[
        int, typer.Option(min=100, metavar="N", help="Number of bootstrap repetitions for curves and profiles.")
    ] = CURVE_REPS,
    thresholds: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            metavar="TASK=RETURN",
            help="Report the time to this return (default: the paper's, or levels of the baseline's curve). "
            "Repeatable.",
        ),
    ] = None,
    average_profiles: Annotated[
        bool, typer.Option(help="Draw performance profiles of mean scores per task, not of runs.")
    ] = False,
    few_seeds_correction: Annotated[
        bool, typer.Option(help="Do not widen confidence intervals for few seeds (see docs/statistics.md).")
    ] = True,
    simultaneous_bands: Annotated[
        bool, typer.Option(help="Draw bands that cover a curve at all steps at once (max-t), not pointwise.")
    ] = False,
    strict: Annotated[
        bool, typer.Option(help="Exit code 1 if there is a serious caveat, such as fewer than 5 seeds.")
    ] = False,
    everything: Everything = False,
) -> None:
    """Create figures, tables and an HTML page from all finished runs."""
    from analysis.summary import Settings

    for unknown in set(formats or ()) - set(get_args(Format)):
        exit_with_error(f"--format {unknown}: not a format; choose from: {', '.join(get_args(Format))}", USAGE)
    settings = Settings(
        score=score,
        scheme=normalize,
        bootstrap_seed=bootstrap_seed,
        reps=reps,
        curve_reps=curve_reps,
        few_seeds_correction=few_seeds_correction,
        simultaneous_bands=simultaneous_bands,
        profiles_of_averages=average_profiles,
        thresholds=_thresholds(thresholds),
    )
    drawn: dict[str, Any] = {"formats": formats} if formats else {}
    drawn |= {"figure": figure, "venue": venue, "strict": strict, "overrides": overrides or ()}
    report_on(trained_folder(sweep, overrides, outputs), settings, everything=everything, **drawn)


IMPORT_EXAMPLES = """
Example: scorer import quickstart theirs.csv --variant algo --return episodic_return

Example: scorer import quickstart s0/progress.csv s1/progress.csv --variant =sb3 --task =minatar/breakout
"""


@app.command("import", epilog=IMPORT_EXAMPLES)
def import_(
    sweep: SweepArgument,
    sources: Annotated[list[Path], typer.Argument(metavar="FILE", help="CSV files; all are imported, or none.")],
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    variant: Annotated[
        str | None, typer.Option(metavar=COLUMN, help="Column of the variant; =VALUE: the variant of all rows.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar=COLUMN, help="Column of the task; =VALUE: the task of all rows.")
    ] = None,
    seed: Annotated[
        str | None, typer.Option(metavar=COLUMN, help="Column of the seed; =VALUE: the seed of all rows.")
    ] = None,
    step: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the environment step.")] = None,
    score: Annotated[str | None, typer.Option("--return", metavar="COLUMN", help="Column of the return.")] = None,
) -> None:
    """Add runs of another codebase (CSV) to the figures and tables of a sweep.

    Long format: one row per run and step.

    Wide format: a column of steps, then one column seed_<n> per seed.

    Other formats: chart exports of W&B, and SB3's progress.csv and monitor.csv.

    Columns with known names are found, such as step, global_step or env_id. Use an option for another name.

    =VALUE gives one value for the whole file: --variant =ppo --seed =0 (in zsh: '=ppo')

    Without a column of seeds, the seed is read from the name of the file or of its folder.
    """
    from analysis.importers.csv_runs import Columns
    from analysis.importers.import_csv import import_runs
    from analysis.text import listed

    with exit_on_report_error():
        found = import_runs(
            trained_folder(sweep, overrides, outputs), sources, Columns(variant, task, seed, step, score)
        )
    for one in found:
        out.print(f"{one.source}: read as: {one.read_as}")
        for note in one.notes:
            out.print(f"{one.source}: {note}")
        if one.replaced:
            runs = listed([f"{name} on {task}, seed {seed}" for name, task, seed in one.replaced], separator="; ")
            out.print(f"{one.source}: replaced runs of an earlier import: {runs}")
        for name, runs in one.runs.items():
            out.print(f"{name}: {count(runs, 'run')}")


def _thresholds(thresholds: list[str] | None) -> dict[str, list[float]] | None:
    """Returns by task, from TASK=RETURN."""
    by_task: dict[str, list[float]] = {}
    for threshold in thresholds or ():
        task, _, value = threshold.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not task or not math.isfinite(number):
            exit_with_error(f"--threshold {threshold}: expected TASK=RETURN with a finite number", USAGE)
        by_task.setdefault(task, []).append(number)
    return by_task or None


def report_on(folder: Path, *settings: Any, everything: bool = False, **drawn: Any) -> None:
    """Draw the report of the sweep in `folder` and print its results: unless `everything`, of some of many variants."""
    from analysis.report import make_report  # imports matplotlib: a second
    from analysis.tables import NO_RESULT
    from cli.results_table import ResultsTable

    with exit_on_report_error():
        made = make_report(folder, *settings, **drawn)
    rows = made.table.rows
    unfinished = [row for row in rows if any(cell.text == NO_RESULT for cell in row)]
    shown = shown_of(rows, unfinished, everything)
    out.print(ResultsTable(replace(made.table, rows=tuple(shown)), made.title))
    if len(shown) < len(rows):
        out.print(more(len(rows) - len(shown), "variant", "", "scorer report"))
    for line in (made.answer, *made.against_random):
        out.print(line)
    for warning in made.warnings:
        out.print(Text.assemble(("note:", "yellow"), f" {warning}"))
    out.print(f"Report: {shown_path(made.page or made.folder)}")
