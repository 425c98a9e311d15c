"""Verbs on what came out: report, export, import."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.text import Text

from analysis.choices import CURVE_REPLICATIONS, REPLICATIONS, Format, Scheme, Score, Venue
from cli.console import DEFAULT_OUTPUTS, FAILED, USAGE, err, exit_with_error, out
from cli.options import Outputs, Overrides, SweepArgument
from cli.sweep_argument import existing_folder
from scorer_core.support.commands import command, shown_path
from scorer_core.support.text import count
from sweeps import folders
from sweeps.left_out import left_out, on_disk

app = typer.Typer()
COLUMN = "COLUMN|=value"


@app.command(epilog="Example: scorer report quickstart --figure intervals --for iclr --strict")
def report(
    sweep: SweepArgument,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    figure: Annotated[str | None, typer.Option(help="Draw this figure alone; a wrong name lists them.")] = None,
    venue: Annotated[Venue, typer.Option("--for", help="Column width.")] = "page",
    formats: Annotated[list[str] | None, typer.Option("--format", help="pdf, svg, png; may be repeated.")] = None,
    score: Annotated[Score, typer.Option(help="final: the mean over the last 10 % of training.")] = "final",
    normalise: Annotated[Scheme | None, typer.Option(help="How tasks come to one scale.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    replications: Annotated[int, typer.Option(min=100, help="Of the bootstrap, for tables.")] = REPLICATIONS,
    curve_replications: Annotated[int, typer.Option(min=100, help="... for curves and profiles.")] = CURVE_REPLICATIONS,
    thresholds: Annotated[
        list[str] | None,
        typer.Option("--threshold", metavar="TASK=RETURN", help="Tabulate the time to it; may be repeated."),
    ] = None,
    average_profiles: Annotated[bool, typer.Option(help="Profiles of seeds' average scores.")] = False,
    correction: Annotated[bool, typer.Option(help="Widen intervals of few seeds by what was measured.")] = True,
    simultaneous: Annotated[bool, typer.Option(help="Curves' bands hold for all steps at once.")] = False,
    strict: Annotated[bool, typer.Option(help="Serious warnings are errors.")] = False,
) -> None:
    """Draw figures, tables and a page from what has been trained."""
    from analysis.summary import Settings

    for strange in set(formats or ()) - set(get_args(Format)):
        exit_with_error(f"--format: '{strange}' is not one of {', '.join(get_args(Format))}", USAGE)
    settings = Settings(
        score=score,
        scheme=normalise,
        seed=seed,
        replications=replications,
        curve_replications=curve_replications,
        few_seeds_correction=correction,
        simultaneous_bands=simultaneous,
        profiles_of_averages=average_profiles,
        thresholds=_levels(thresholds),
    )
    drawn: dict[str, Any] = {"formats": formats} if formats else {}
    drawn |= {"figure": figure, "venue": venue, "strict": strict, "overrides": overrides or ()}
    report_on(_trained(sweep, overrides, outputs), settings, **drawn)


@app.command(epilog="Example: scorer export quickstart --to my-notebook/data")
def export(
    sweep: SweepArgument,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    to: Annotated[Path | None, typer.Option(help="Folder to write to; else report/export.")] = None,
) -> None:
    """Write runs and curves as CSV and Parquet, and the score arrays that rliable takes."""
    from analysis.export import export as write

    with _refusals():
        exported = write(_trained(sweep, overrides, outputs), to, overrides or ())
    for path in exported.files:
        out.print(str(path))
    for problem in exported.problems:
        err.print(f"problem: {problem}")
    if not exported.curves:
        out.print("No run is finished and has a return: the tables of curves and the score arrays hold no run.")


IMPORT_EXAMPLES = """
Example: scorer import quickstart theirs.csv --variant algo --return episodic_return

Example: scorer import quickstart s0/progress.csv s1/progress.csv --variant =sb3 --task =minatar/breakout
"""


@app.command("import", epilog=IMPORT_EXAMPLES)
def import_(
    sweep: SweepArgument,
    sources: Annotated[list[Path], typer.Argument(metavar="CSV", help="All files are imported, or none.")],
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    variant: Annotated[str | None, typer.Option(metavar=COLUMN, help="The variant; =NAME: of all rows.")] = None,
    task: Annotated[str | None, typer.Option(metavar=COLUMN, help="The task; =TASK: of all rows.")] = None,
    seed: Annotated[str | None, typer.Option(metavar=COLUMN, help="The seed; =N: of all rows.")] = None,
    step: Annotated[str | None, typer.Option(metavar="COLUMN", help="The environment step.")] = None,
    score: Annotated[str | None, typer.Option("--return", metavar="COLUMN", help="The return.")] = None,
) -> None:
    """Import runs of other tools into every figure and table of a sweep.

    A long CSV has one row per run and step.

    A wide CSV has a column of steps, then one column seed_<n> per seed.

    Chart exports of W&B are read too, and SB3's progress.csv and monitor.csv.

    Columns with known names are found, such as step, global_step or env_id. An option names another column.

    =value gives one value for the whole file: --variant =ppo --seed =0 (in zsh: '=ppo')

    Without a column, the seed is in the name of the file or of its folder.
    """
    from analysis.csv_runs import Columns
    from analysis.imports import import_runs

    with _refusals():
        found = import_runs(_trained(sweep, overrides, outputs), sources, Columns(variant, task, seed, step, score))
    for one in found:
        out.print(f"{one.source}: read as: {one.read_as}")
        for note in one.notes:
            out.print(f"{one.source}: {note}")
        if one.replaced:
            runs = ", ".join(f"{name} on {task}, seed {seed}" for name, task, seed in one.replaced[:6])
            more = f" and {len(one.replaced) - 6} more" if len(one.replaced) > 6 else ""
            out.print(f"{one.source}: replaced what was imported from it before: {runs}{more}")
        for name, runs in one.runs.items():
            out.print(f"{name}: {count(runs, 'run')}")


def _levels(thresholds: list[str] | None) -> dict[str, list[float]] | None:
    """Levels by task, from TASK=RETURN."""
    levels: dict[str, list[float]] = {}
    for threshold in thresholds or ():
        task, _, level = threshold.rpartition("=")
        try:
            number = float(level)
        except ValueError:
            number = math.nan
        if not task or not math.isfinite(number):
            exit_with_error(f"--threshold {threshold}: not of the form TASK=RETURN, with a finite number", USAGE)
        levels.setdefault(task, []).append(number)
    return levels or None


def _trained(sweep: str, overrides: list[str] | None, outputs: Path) -> Path:
    """The folder of a sweep that has been begun."""
    given = (word for override in overrides or () for word in ("-s", override))
    again = command("run", sweep, *given, outputs=outputs)
    folder = existing_folder(sweep, outputs, f"nothing was trained here. Train it with: {again}", overrides or ())
    defined = folders.load(sweep, outputs, overrides or ())[0]
    source = folders.source(sweep, outputs, overrides or ())
    left = left_out(folder, on_disk(folder), {run.run_id for run in defined.runs}, lambda: defined, source)
    for line in left:
        err.print(f"note: {line}")
    return folder


@contextmanager
def _refusals() -> Iterator[None]:
    """What a report refuses is one line, and a failure."""
    from analysis.load import ReportError

    try:
        yield
    except ReportError as error:
        exit_with_error(str(error), FAILED)


def report_on(folder: Path, *settings: Any, **drawn: Any) -> None:
    """Draw the report of the sweep in `folder` and say what it found."""
    from analysis.report import make_report  # the figures' libraries take a second to import
    from cli.results_table import ResultsTable

    with _refusals():
        made = make_report(folder, *settings, **drawn)
    out.print(ResultsTable(made.table, made.title))
    for line in (made.answer, *made.against_random):
        out.print(line)
    for warning in made.warnings:
        out.print(Text.assemble(("note:", "yellow"), f" {warning}"))
    out.print(f"Report: {shown_path(made.page or made.folder)}")
