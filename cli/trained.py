"""Sweeps with results, for the commands on results."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.console import FAILED, err, exit_with_error
from cli.sweep_argument import existing_folder
from scorer_core.support.commands import command
from sweeps import folders
from sweeps.left_out import left_out, on_disk


def trained_folder(sweep: str, overrides: list[str] | None, outputs: Path) -> Path:
    """The folder of a sweep with results; exits if there is none."""
    given = (word for override in overrides or () for word in ("-s", override))
    again = command("run", sweep, *given, outputs=outputs)
    folder = existing_folder(
        sweep, outputs, f"this sweep has not been trained. Train it with: {again}", overrides or ()
    )
    defined = folders.load(sweep, outputs, overrides or ())[0]
    source = folders.source(sweep, outputs, overrides or ())
    left = left_out(folder, on_disk(folder), {run.run_id for run in defined.runs}, lambda: defined, source)
    for line in left:
        err.print(f"note: {line}")
    return folder


@contextmanager
def exit_on_report_error() -> Iterator[None]:
    """Turn a ReportError into one line on stderr and an exit code."""
    from analysis.load import ReportError

    try:
        yield
    except ReportError as error:
        exit_with_error(str(error), FAILED)
