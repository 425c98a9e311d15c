"""The command line: the list of all commands, and how an error ends them."""

import platform
import sys
import tempfile
import traceback

from cli import (
    cancel,
    clean,
    logs,
    plan,
    profile,
    report,
    resubmit,
    run,
    search,
    search_results,
    status,
    submit,
    sweeps,
)
from cli.console import FAILED, USAGE, err
from cli.help import App
from scorer_core.support import streams
from scorer_core.support.errors import RecordError, UserCodeError, reason
from sweeps.errors import DefinitionError

app = App(
    help="Run sweeps and ablations of SCORER: from a YAML file to figures with confidence intervals.\n\n"
    "Exit codes of all commands: 0 done; 1 something failed; 2 wrong usage or definition; 75 interrupted.",
    epilog="Example: scorer run quickstart\n\nExample: scorer submit quickstart --profile mycluster",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for commands in (sweeps, plan, run, submit, status, logs, resubmit, cancel, clean, report):
    app.add_typer(commands.app)
search.app.add_typer(search_results.app)
app.add_typer(search.app, name="search")
app.add_typer(profile.app, name="profile")


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
            code, message = USAGE, f"{shown}: this argument is not valid text in the encoding of the locale"
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
    """One line on an error in scorer itself; its traceback is written to a file."""
    trace = "".join(traceback.format_exception(error))
    from importlib.metadata import version  # slow to import

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
