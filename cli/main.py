"""The command line: the rooms' verbs, and the one that goes through them all."""

import platform
import sys
import tempfile
import traceback
from importlib.metadata import version

import typer

import cli.jobs
import cli.report
import cli.run
import cli.search
import cli.search_results
import cli.sweeps
from cli.console import FAILED, USAGE, RunByDefault, err
from scorer_core.support import streams
from scorer_core.support.errors import RecordError, UserCodeError, reason
from sweeps.errors import DefinitionError

app = typer.Typer(
    help="Sweeps and ablations of SCORER, from a YAML grid to an IQM figure.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(cli.run.app)
app.add_typer(cli.sweeps.app)


app.add_typer(cli.jobs.app)
app.add_typer(cli.report.app)
search = typer.Typer(
    cls=RunByDefault,
    no_args_is_help=True,
    help="Let Optuna find the best ratio, or any other settings: many trials to a pack, several seeds to a trial.",
    epilog="Example: scorer search ratio_search --trials 200",
)
search.add_typer(cli.search.app)
search.add_typer(cli.search_results.app)
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
