"""`scorer run`: train a sweep on this machine and report."""

from typing import Annotated

import typer
from rich.text import Text

from cli.console import DEFAULT_OUTPUTS, FAILED, INTERRUPTED, USAGE, err, exit_with_error, out
from cli.device import means_for
from cli.help import App
from cli.options import CommitSeconds, Device, Lanes, Outputs, Overrides, Processes, SweepArgument
from cli.plan import print_estimate, print_plan
from cli.progress import ProgressBars
from cli.report import report_on
from cli.sweep_argument import definition
from scorer_core.plugins import check_unchanged
from scorer_core.provenance import CODE_ROOT, code_version
from scorer_core.records import PackFolder
from scorer_core.support.commands import command
from scorer_core.support.errors import RecordError
from scorer_core.support.text import count
from slurm.jobs.launcher import Launcher, LaunchState, Slot
from slurm.places import HERE, known_speeds
from sweeps import folders
from sweeps.plan import Compile, make_plan

app = App()


@app.command(epilog="Example: scorer run quickstart -s seeds=5 --processes 2")
def run(
    sweep: SweepArgument,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    lanes: Lanes = None,
    processes: Processes = None,
    device: Device = "auto",
    compile: Annotated[
        Compile,
        typer.Option(
            metavar="MODE",
            help="Use torch.compile on a GPU; choose from: auto (for runs long enough to repay it), on, off.",
        ),
    ] = "auto",
    commit_seconds: CommitSeconds = 60.0,
) -> None:
    """Train all unfinished runs on this machine, then draw the report.

    Interrupted runs continue from their checkpoints.
    """
    loaded, outputs = definition(sweep, outputs, overrides or ())
    means = means_for(HERE.model_copy(update={"device": device}), loaded, compile)
    if means.problem:
        exit_with_error(means.problem, USAGE)
    if compile == "on" and means.device == "cpu":
        exit_with_error("--compile on: packs on a CPU run machine code without torch.compile; omit the option", USAGE)
    if means.no_compiler and compile == "on":
        exit_with_error(f"--compile on: {means.no_compiler}", USAGE)
    known = known_speeds(outputs, HERE)
    planned = make_plan(loaded, outputs, lanes, means.compile, processes, device=means.device, speeds=known)
    # Printed before the frozen definition is replaced: it may have the names of runs that this one no longer has.
    changes = folders.changes(sweep, planned.folder, overrides or ())
    print_plan(planned, folders.source(sweep, outputs, overrides or ()), changes)
    print_estimate(planned, means)
    try:
        if planned.packs:
            check_unchanged(loaded.sources_now)
        planned.write()
    except RecordError as error:
        exit_with_error(str(error), USAGE)
    code_version(CODE_ROOT)  # warns of a secret in the diff, which every attempt records
    if not planned.packs:
        if planned.damaged:
            report_on(planned.folder)
            exit_with_error(
                f"{count(len(planned.damaged), 'run')} not trained, because a file of the pack is damaged", FAILED
            )
        out.print("All runs are finished.")
        return report_on(planned.folder)
    slots = [Slot() for _ in range(planned.layout.processes)]
    launcher = Launcher(slots, ["--device", means.device, "--commit-seconds", f"{commit_seconds:g}"])
    waited_for: set[PackFolder] = set()

    def show(outcome: LaunchState) -> None:
        bars.show(outcome)
        for folder in outcome.elsewhere.keys() - waited_for:
            waited_for.add(folder)
            who = outcome.elsewhere[folder]
            out.print(f"Another command ({who}) is training pack {folder.pack_id}. Waiting for it.")

    with ProgressBars(planned.packs, out) as bars:
        outcome = launcher.run([pack.folder for pack in planned.packs], show)
    for folder, why in outcome.failed:
        err.print(Text.assemble((f"pack {folder.pack_id} failed:", "red"), f" {why}"))
        err.print(f"  See its log: {command('logs', folder.pack_id, outputs=outputs)}")
    again = command("run", sweep, *(word for override in overrides or () for word in ("-s", override)), outputs=outputs)
    if outcome.interrupted or outcome.waiting:
        exit_with_error(f"Interrupted; checkpoints are saved. Continue with: {again}", INTERRUPTED)
    report_on(planned.folder)
    if outcome.failed or planned.damaged:
        raise typer.Exit(FAILED)
    return None
