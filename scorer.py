"""The command line: one verb a function, each calling the rooms below."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args

import typer
from rich.console import Console
from rich.table import Table

from analysis.choices import CURVE_REPLICATIONS, REPLICATIONS, Format, Scheme, Score, Venue
from scorer_core.records import RecordError
from slurm.launch import LocalLauncher
from slurm.watch import Bars
from sweeps import definition
from sweeps.definition import DefinitionError
from sweeps.plan import LANES_PER_PACK, Compile, Plan, find_run, make_plan

FAILED, USAGE, INTERRUPTED = 1, 2, 75

app = typer.Typer(
    help="Sweeps and ablations of SCORER, from a YAML grid to an IQM figure.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
out, err = Console(), Console(stderr=True)

SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="A shipped name, or the path of a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-s", "--set", metavar="KEY=VALUE", help="Override any field by its dotted name; may be repeated."),
]
Outputs = Annotated[Path, typer.Option(envvar="SCORER_OUTPUTS", help="Where sweeps are kept.")]
Lanes = Annotated[int, typer.Option(min=1, help="Runs trained together, at most.")]
Processes = Annotated[int, typer.Option(min=1, help="Packs trained at a time; each takes one core.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]
DEFAULT_OUTPUTS = Path("outputs")
CORES = os.cpu_count() or 1


@app.command(epilog="Example: scorer sweeps")
def sweeps(as_json: AsJson = False) -> None:
    """List the shipped sweeps and the question each asks."""
    loaded = [definition.load(name) for name in definition.shipped()]
    if as_json:
        return _print_json([{"name": s.name, "question": s.question, "runs": len(s.runs)} for s in loaded])
    table = Table("sweep", "question", "runs")
    for sweep in loaded:
        table.add_row(sweep.name, sweep.question, str(len(sweep.runs)))
    return out.print(table)


@app.command(epilog="Example: scorer plan quickstart -s seeds=5 -s variants.scorer.ratio=10")
def plan(
    sweep: SweepArgument,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    lanes: Lanes = LANES_PER_PACK,
    processes: Processes = CORES,
    as_json: AsJson = False,
) -> None:
    """Show what a sweep expands to, what is done, what is missing, and what that costs. Writes nothing."""
    planned = make_plan(definition.load(sweep, overrides or ()), outputs, lanes)
    if as_json:
        return _print_json(_plan_json(planned, processes))
    return _print_plan(planned, processes)


@app.command(epilog="Example: scorer run quickstart -s seeds=5 --processes 2")
def run(
    sweep: SweepArgument,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    lanes: Lanes = LANES_PER_PACK,
    processes: Processes = CORES,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto: a GPU if there is one.")] = "auto",
    compile: Annotated[Compile, typer.Option(help="auto: when the planned steps repay it.")] = "auto",
    commit_seconds: Annotated[float, typer.Option(min=0, help="Seconds between commits.")] = 60.0,
) -> None:
    """Train what is missing on this machine, going on where it was cut off; then report."""
    planned = make_plan(definition.load(sweep, overrides or ()), outputs, lanes, compile)
    try:
        planned.write()
    except RecordError as error:
        _stop(str(error), USAGE)
    _print_plan(planned, processes)
    if not planned.packs:
        out.print("Nothing is missing.")
        return _report(planned.folder)
    launcher = LocalLauncher(processes, device, commit_seconds)
    with Bars(planned.packs, out) as bars:
        outcome = launcher.run([pack.folder for pack in planned.packs], bars.show)
    for folder, why in outcome.failed:
        err.print(f"[red]pack {folder.pack_id} failed:[/] {why}", highlight=False)
        err.print(f"  its log: {folder.path}/attempts/*/stderr.log", highlight=False)
    if outcome.interrupted or outcome.waiting:
        _stop(f"interrupted; all is committed. To go on: scorer run {sweep}", INTERRUPTED)
    _report(planned.folder)
    if outcome.failed:
        raise typer.Exit(FAILED)
    return None


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
        _stop(f"--format: '{strange}' is not one of {', '.join(get_args(Format))}", USAGE)
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
    drawn = {"formats": formats} if formats else {}
    _report(_trained(sweep, overrides, outputs), settings, figure=figure, venue=venue, strict=strict, **drawn)


@app.command(epilog="Example: scorer export quickstart --to my-notebook/data")
def export(
    sweep: SweepArgument,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    to: Annotated[Path | None, typer.Option(help="Folder to write to; else report/export.")] = None,
) -> None:
    """Write runs and curves as CSV and Parquet, and the score arrays that rliable takes."""
    from analysis.exchange import export as write

    with _refusals():
        for path in write(_trained(sweep, overrides, outputs), to):
            out.print(path, highlight=False, soft_wrap=True)


@app.command("import", epilog="Example: scorer import quickstart theirs.csv --variant algo --return episodic_return")
def import_(
    sweep: SweepArgument,
    source: Annotated[Path, typer.Argument(metavar="CSV", help="Long format: a row a run and step.")],
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    variant: Annotated[str, typer.Option(help="The column that names the variant.")] = "variant",
    task: Annotated[str, typer.Option(help="... the task.")] = "task",
    seed: Annotated[str, typer.Option(help="... the seed.")] = "seed",
    step: Annotated[str, typer.Option(help="... the environment step.")] = "step",
    score: Annotated[str, typer.Option("--return", help="... the return.")] = "return",
) -> None:
    """Put runs from elsewhere into every figure and table of a sweep."""
    from analysis.exchange import Columns, import_runs

    with _refusals():
        columns = Columns(variant, task, seed, step, score)
        for name, runs in import_runs(_trained(sweep, overrides, outputs), source, columns).items():
            out.print(f"{name}: {runs} runs", highlight=False)


@app.command(epilog="Example: scorer show 3f2a  (any beginning of a run id that is unique)")
def show(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID")],
    outputs: Outputs = DEFAULT_OUTPUTS,
    as_json: AsJson = False,
) -> None:
    """Show one run: configuration, provenance, state, last metrics."""
    folder, config = find_run(outputs, run_id)
    shown = {
        "run_id": config.run_id,
        "state": folder.done().get(config.run_id) or folder.state(),
        "pack": str(folder.path),
        "configuration": config.model_dump(mode="json") | {"ratio": config.ratio},
        "provenance": folder.provenance(),
        "last_metrics": folder.last_row(config.run_id),
    }
    if as_json:
        return _print_json(shown)
    provenance = {key: value for key, value in shown["provenance"].items() if key not in ("packages", "git_diff")}
    provenance["git_diff"] = f"{len((shown['provenance'].get('git_diff') or '').splitlines())} lines"
    out.print(f"[bold]{config.run_id}[/]  {config.task}, {config.coupling}, seed {config.seed}", highlight=False)
    out.print(f"pack {folder.path}", highlight=False, soft_wrap=True)
    for title in ("state", "configuration", "provenance", "last_metrics"):
        table = Table("", "", title=title.replace("_", " "), title_justify="left", show_header=False, box=None)
        for key, value in (provenance if title == "provenance" else shown[title]).items():
            table.add_row(key, f"{value:.6g}" if isinstance(value, float) else str(value))
        out.print(table)
    return None


def _print_plan(planned: Plan, processes: int) -> None:
    sweep = planned.sweep
    out.print(f"[bold]{sweep.name}[/]: {sweep.question}", highlight=False)
    table = Table("variant", *sweep.tasks)
    for variant in sweep.grid_variants:
        cells = []
        for task in sweep.tasks:
            ids = [run.run_id for run in sweep.runs if run.variant == variant and run.config.task == task]
            done = sum(run_id in planned.done for run_id in ids)
            diverged = sum(planned.done.get(run_id) == "diverged" for run_id in ids)
            cells.append(f"{done}/{len(ids)} done" + (f", {diverged} diverged" if diverged else ""))
        table.add_row(variant.name + (" (baseline)" if variant.family == sweep.baseline else ""), *cells)
    out.print(table)
    grid = f"{len(sweep.grid_variants)} variants x {len(sweep.tasks)} tasks x {len(sweep.seeds)} seeds"
    out.print(f"{grid} = {len(sweep.runs)} cells, {len(planned.run_ids)} distinct runs, {planned.missing} missing.")
    if planned.packs:
        begun = sum(pack.begun for pack in planned.packs)
        steps = sum(pack.env_steps for pack in planned.packs)
        lanes = ", ".join(str(len(pack.configs)) for pack in planned.packs)
        out.print(
            f"{len(planned.packs)} packs of {lanes} lanes ({begun} begun before), {steps:,} environment steps, "
            f"about {_duration(planned.seconds(processes))} with {processes} processes."
        )


def _plan_json(planned: Plan, processes: int) -> dict[str, Any]:
    return {
        "sweep": planned.sweep.name,
        "folder": str(planned.folder),
        "seconds": round(planned.seconds(processes)),
        "done": planned.done,
        "runs": [
            {"run_id": r.run_id, "variant": r.variant.name, "task": r.config.task, "seed": r.config.seed}
            for r in planned.sweep.runs
        ],
        "packs": [
            {"pack_id": p.folder.pack_id, "begun": p.begun, "run_ids": [c.run_id for c in p.configs]}
            for p in planned.packs
        ],
    }


def _levels(thresholds: list[str] | None) -> dict[str, list[float]] | None:
    """Levels by task, from TASK=RETURN."""
    levels: dict[str, list[float]] = {}
    for threshold in thresholds or ():
        task, _, level = threshold.rpartition("=")
        try:
            levels.setdefault(task, []).append(float(level))
        except ValueError:
            _stop(f"--threshold {threshold}: not of the form TASK=RETURN", USAGE)
    return levels or None


def _trained(sweep: str, overrides: list[str] | None, outputs: Path) -> Path:
    """The folder of a sweep that has been begun."""
    folder = outputs / definition.load(sweep, overrides or ()).name
    if not (folder / "sweep.yaml").exists():
        _stop(f"{folder}: nothing has been trained here; scorer run {sweep}", FAILED)
    return folder


@contextmanager
def _refusals() -> Iterator[None]:
    """What a report refuses is one line, and a failure."""
    from analysis.load import ReportError

    try:
        yield
    except ReportError as error:
        _stop(str(error), FAILED)


def _report(folder: Path, *settings: Any, **drawn: Any) -> None:
    from analysis.report import make_report  # the figures' libraries take a second to import

    with _refusals():
        made = make_report(folder, *settings, **drawn)
    out.print(made.table)
    for line in (made.answer, *made.against_random):
        out.print(line, highlight=False)
    for warning in made.warnings:
        out.print(f"[yellow]note:[/] {warning}", highlight=False)
    out.print(f"Report: {made.page or made.folder}", highlight=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def _stop(message: str, code: int) -> NoReturn:
    err.print(message, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(code)


def main() -> None:
    """Run the command line; what a user got wrong is one line, not a traceback."""
    try:
        app()
    except DefinitionError as error:
        code, message = USAGE, str(error)
    except RecordError as error:
        code, message = FAILED, str(error)
    else:
        return
    err.print(message, highlight=False, markup=False, soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
