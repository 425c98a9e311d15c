"""`scorer run`: train a sweep on this machine and report."""

from typing import Annotated

import typer
from rich.text import Text

from cli.console import DEFAULT_OUTPUTS, FAILED, INTERRUPTED, USAGE, err, exit_with_error, out
from cli.options import Lanes, Outputs, Overrides, Processes, SweepArgument
from cli.progress import ProgressBars
from cli.report import report_on
from cli.sweeps import print_plan, print_price
from scorer_core.provenance import CODE_ROOT, code_version
from scorer_core.records import PackFolder
from scorer_core.support.commands import command
from scorer_core.support.errors import RecordError
from scorer_core.support.text import count
from slurm.local.launcher import LaunchState, LocalLauncher
from sweeps import folders
from sweeps.plan import Compile, make_plan

app = typer.Typer()


@app.command(epilog="Example: scorer run quickstart -s seeds=5 --processes 2")
def run(
    sweep: SweepArgument,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    lanes: Lanes = None,
    processes: Processes = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto: a GPU if there is one.")] = "auto",
    compile: Annotated[Compile, typer.Option(help="auto: when the planned steps repay it.")] = "auto",
    commit_seconds: Annotated[float, typer.Option(min=0, help="Seconds between commits.")] = 60.0,
) -> None:
    """Train what is missing on this machine, going on where it was cut off; then report."""
    loaded, outputs = folders.load(sweep, outputs, overrides or ())
    planned = make_plan(loaded, outputs, lanes, compile, processes)
    # Printed before the frozen definition is replaced, which may have the names of runs that this one has no longer.
    print_plan(planned, folders.source(sweep, outputs, overrides or ()))
    print_price(planned)
    try:
        planned.write()
    except RecordError as error:
        exit_with_error(str(error), USAGE)
    code_version(CODE_ROOT)  # warns of a secret in the diff, which every attempt records
    if not planned.packs:
        if planned.damaged:
            report_on(planned.folder)
            exit_with_error(
                f"{count(len(planned.damaged), 'run')} not trained: a record of their pack is damaged", FAILED
            )
        out.print("Nothing is missing.")
        return report_on(planned.folder)
    launcher = LocalLauncher(planned.layout.processes, device, commit_seconds)
    named: set[PackFolder] = set()

    def show(outcome: LaunchState) -> None:
        bars.show(outcome)
        for folder in outcome.elsewhere.keys() - named:
            named.add(folder)
            who = outcome.elsewhere[folder]
            told = f"Pack {folder.pack_id} is trained by another command ({who}). Waiting for it."
            out.print(told)

    with ProgressBars(planned.packs, out) as bars:
        outcome = launcher.run([pack.folder for pack in planned.packs], show)
    for folder, why in outcome.failed:
        err.print(Text.assemble((f"pack {folder.pack_id} failed:", "red"), f" {why}"))
        err.print(f"  its log: {command('logs', folder.pack_id, outputs=outputs)}")
    again = command("run", sweep, *(word for override in overrides or () for word in ("-s", override)), outputs=outputs)
    if outcome.interrupted or outcome.waiting:
        exit_with_error(f"interrupted; all is committed. To go on: {again}", INTERRUPTED)
    report_on(planned.folder)
    if outcome.failed or planned.damaged:
        raise typer.Exit(FAILED)
    return None
