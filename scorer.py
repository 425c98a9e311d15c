"""The command line: the rooms' verbs, and the one that goes through them all."""

import platform
import sys
import tempfile
import traceback
from importlib.metadata import version
from typing import Annotated

import typer
from rich.text import Text

import analysis.verbs
import analysis.verbs_search
import slurm.verbs
import slurm.verbs_search
import sweeps.verbs
from analysis.verbs import report_on
from scorer_core.commands import command
from scorer_core.errors import RecordError, UserCodeError, reason
from scorer_core.provenance import SOURCE, code_version
from scorer_core.records import PackFolder
from slurm.launch import LocalLauncher, Outcome
from slurm.watch import Bars
from sweeps import folders, streams
from sweeps.definition import DefinitionError
from sweeps.plan import Compile, make_plan
from sweeps.terminal import (
    DEFAULT_OUTPUTS,
    FAILED,
    INTERRUPTED,
    USAGE,
    Lanes,
    Outputs,
    Overrides,
    Processes,
    RunByDefault,
    SweepArgument,
    count,
    err,
    out,
    stop,
)
from sweeps.verbs import print_plan, print_price

app = typer.Typer(
    help="Sweeps and ablations of SCORER, from a YAML grid to an IQM figure.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(sweeps.verbs.app)


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
        stop(str(error), USAGE)
    code_version(SOURCE)  # warns of a secret in the diff, which every attempt records
    if not planned.packs:
        if planned.damaged:
            report_on(planned.folder)
            stop(f"{count(len(planned.damaged), 'run')} not trained: a record of their pack is damaged", FAILED)
        out.print("Nothing is missing.")
        return report_on(planned.folder)
    launcher = LocalLauncher(planned.layout.processes, device, commit_seconds)
    named: set[PackFolder] = set()

    def show(outcome: Outcome) -> None:
        bars.show(outcome)
        for folder in outcome.elsewhere.keys() - named:
            named.add(folder)
            who = outcome.elsewhere[folder]
            told = f"Pack {folder.pack_id} is trained by another command ({who}). Waiting for it."
            out.print(told)

    with Bars(planned.packs, out) as bars:
        outcome = launcher.run([pack.folder for pack in planned.packs], show)
    for folder, why in outcome.failed:
        err.print(Text.assemble((f"pack {folder.pack_id} failed:", "red"), f" {why}"))
        err.print(f"  its log: {command('logs', folder.pack_id, outputs=outputs)}")
    again = command("run", sweep, *(word for override in overrides or () for word in ("-s", override)), outputs=outputs)
    if outcome.interrupted or outcome.waiting:
        stop(f"interrupted; all is committed. To go on: {again}", INTERRUPTED)
    report_on(planned.folder)
    if outcome.failed or planned.damaged:
        raise typer.Exit(FAILED)
    return None


app.add_typer(slurm.verbs.app)
app.add_typer(analysis.verbs.app)
search = typer.Typer(
    cls=RunByDefault,
    no_args_is_help=True,
    help="Let Optuna find the best ratio, or any other settings: many trials to a pack, several seeds to a trial.",
    epilog="Example: scorer search ratio_search --trials 200",
)
search.add_typer(slurm.verbs_search.app)
search.add_typer(analysis.verbs_search.app)
app.add_typer(search, name="search")


def main() -> None:
    """Run the command line. An error is one line, not a traceback."""
    streams.protect()
    code = _run()
    if lost := streams.lost_output():
        err.print(f"stdout: not all output could be written: {lost}")
        code = code or FAILED
    sys.exit(code)


def _run() -> int | str | None:
    try:
        for argument in sys.argv:
            argument.encode()
        app()
    except SystemExit as stopped:
        return stopped.code
    except UnicodeEncodeError as error:
        if error.object not in sys.argv:
            code, message = FAILED, _unexpected(error)
        else:
            shown = error.object.encode(errors="backslashreplace").decode()
            code, message = USAGE, f"{shown}: this argument is not text in the encoding of the locale"
    except (DefinitionError, UserCodeError) as error:
        code, message = USAGE, str(error)
    except RecordError as error:
        code, message = FAILED, str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        code, message = FAILED, _unexpected(error)
    else:
        return 0
    err.print(message)
    return code


def _unexpected(error: BaseException) -> str:
    """An error in scorer itself, in one line; its traceback is written to a file."""
    trace = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="replace", prefix="scorer-error-", suffix=".txt", delete=False
        ) as file:
            file.write(f"scorer {version('scorer')}, Python {platform.python_version()}\n{trace}")
    except OSError as unwritten:
        return f"unexpected error: {reason(error)}; its traceback could not be written: {reason(unwritten)}"
    return f"unexpected error: {reason(error)}; the traceback is in {file.name}; please report it"


if __name__ == "__main__":
    main()
