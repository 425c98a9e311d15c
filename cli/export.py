"""`scorer export`."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import DEFAULT_OUTPUTS, FAILED, INTERRUPTED, err, exit_with_error, out
from cli.help import App
from cli.options import Outputs, Overrides, SweepArgument
from cli.progress import progress
from cli.trained import exit_on_report_error, trained_folder
from scorer_core.support.commands import command_on, shown_path
from scorer_core.support.text import count
from sweeps.errors import DefinitionError

app = App()
FOLLOW_SECONDS = 180.0
DESTINATIONS = ("csv", "wandb", "tensorboard")
OPTIONS = {  # destinations that an option is for
    "folder": ("csv", "tensorboard"),
    "project": ("wandb",),
    "entity": ("wandb",),
    "offline": ("wandb",),
    "artifact": ("wandb",),
    "follow": ("wandb", "tensorboard"),
}


def _destination(name: str) -> str:
    if name not in DESTINATIONS:
        raise DefinitionError(
            f"--to {name}: not a destination; choose from: {', '.join(DESTINATIONS)} (a folder is given by --folder)"
        )
    return name


EXAMPLES = """
Example: scorer export quickstart --folder my-notebook/data

Example: scorer export quickstart --to wandb --project ablations --follow
"""


@app.command(epilog=EXAMPLES)
def export(
    sweep: SweepArgument,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    to: Annotated[
        str,
        typer.Option(
            metavar="DESTINATION",
            callback=_destination,
            help="Where to; choose from: csv, wandb, tensorboard.",
        ),
    ] = "csv",
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="csv, tensorboard: write into this folder (default: report/export or report/tensorboard in the "
            "sweep's folder).",
        ),
    ] = None,
    project: Annotated[
        str, typer.Option(metavar="NAME", help="wandb: the project (default: the name of the sweep).")
    ] = "",
    entity: Annotated[
        str, typer.Option(metavar="NAME", help="wandb: the user or team (default: that of your login).")
    ] = "",
    offline: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="wandb: write into this folder, for `wandb sync`, and send nothing."),
    ] = None,
    artifact: Annotated[
        bool, typer.Option("--artifact", help="wandb: also send the report and the definition, as an artifact.")
    ] = False,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="wandb, tensorboard: repeat every 3 minutes until no run is left to wait for."),
    ] = False,
) -> None:
    """Export results: to files for a notebook, to Weights & Biases, or to TensorBoard.

    csv: runs and curves of finished runs as CSV and Parquet, and score matrices for rliable as NumPy arrays.

    wandb, tensorboard: every logged row of every run, also of unfinished ones. Repeat the command to add what is new.

    W&B's API key is read from WANDB_API_KEY or from what `wandb login` stored, and is needed on this machine only.
    """
    given = {"folder": folder, "project": project, "entity": entity, "offline": offline, "artifact": artifact}
    for name, value in (given | {"follow": follow}).items():
        if value and to not in OPTIONS[name]:
            raise DefinitionError(f"--{name}: not an option of --to {to}, but of --to {' and '.join(OPTIONS[name])}")
    sweep_folder = trained_folder(sweep, overrides, outputs)
    if to == "csv":
        return _write_tables(sweep_folder, folder, overrides or ())
    tracker, then = _tracker(to, sweep_folder, folder, project, entity, offline, artifact)
    try:
        while True:
            waiting = follow and _is_in_progress(sweep_folder)
            left = _export(sweep_folder, tracker, overrides or ())
            if not waiting or not left:
                break
            time.sleep(FOLLOW_SECONDS)
    except KeyboardInterrupt:
        err.print("Interrupted. The same command goes on from here.")
        raise typer.Exit(INTERRUPTED) from None
    if then:
        out.print(then)
    return None


def _write_tables(sweep_folder: Path, to: Path | None, overrides: Sequence[str]) -> None:
    from analysis.exporters.tables import export as write

    with exit_on_report_error():
        exported = write(sweep_folder, to, overrides)
    for path in exported.files:
        out.print(str(path))
    for problem in exported.problems:
        err.print(f"problem: {problem}")
    if not exported.curves:
        out.print("No finished run has a return: the tables of curves and the score matrices are empty.")


def _tracker(
    to: str,
    sweep_folder: Path,
    folder: Path | None,
    project: str,
    entity: str,
    offline: Path | None,
    artifact: bool,
) -> tuple[Any, str]:
    """The destination, and the command that shows what was exported; "" if W&B has it already."""
    if to == "wandb":
        from analysis.exporters.wandb_runs import WandbTracker

        then = f"Upload with: wandb sync {shown_path(offline / 'wandb')}" if offline else ""
        return WandbTracker(project, entity, offline, artifact), then
    from analysis.exporters.tensorboard_files import TensorboardTracker

    tracker = TensorboardTracker(folder)
    return tracker, f"Show with: tensorboard --logdir {shown_path(tracker.place(sweep_folder))}"


def _is_in_progress(sweep_folder: Path) -> bool:
    """Whether a run is training or in a queue, or may be."""
    from slurm.status import read_status

    found = read_status(sweep_folder, accounting=False, tolerant=True)
    return any(cell.state in ("running", "pending", "unknown") for cell in found.cells)


def _export(sweep_folder: Path, tracker: Any, overrides: Sequence[str]) -> int:
    """Export what is new, with a progress bar; the number of runs that are not finished."""
    from analysis.exporters.marks import ExportError
    from analysis.exporters.trackers import export_runs

    bars = progress(err)
    bar = bars.add_task("exporting", total=None)
    with exit_on_report_error(), bars if err.is_terminal else nullcontext():
        try:
            exported = export_runs(
                sweep_folder, tracker, overrides, lambda done, total: bars.update(bar, completed=done, total=total)
            )
        except ExportError as error:
            exit_with_error(str(error), FAILED)
        finally:
            bars.remove_task(bar)  # a finished bar would stay on the screen after each repetition
    for problem in exported.problems:
        err.print(f"problem: {problem}")
    out.print(f"Exported {count(exported.rows, 'new row')} of {count(exported.runs, 'run')}.")
    if exported.imported:
        out.print(f"{count(exported.imported, 'imported run')} left out: only --to csv has them.")
    if exported.unfinished:
        state = command_on("status", sweep_folder)
        out.print(f"{count(exported.unfinished, 'run')} not finished yet; see: {state}")
    return exported.unfinished
