"""The command line: the list of all commands, and how an error ends them."""

import platform
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module

from cli.completion import asked_words
from cli.console import FAILED, USAGE, err
from cli.help import App
from scorer_core.devices import DeviceError
from scorer_core.support import streams
from scorer_core.support.errors import RecordError, UserCodeError, reason
from sweeps.errors import DefinitionError

# In the order of `--help`; each module defines the command of its name, and maybe related ones.
MODULES = ("sweeps", "new", "plan", "run", "submit", "list", "status", "logs", "resubmit", "cancel", "clean", "report",
           "export", "search", "profile", "bench")  # fmt: skip
GROUPS = ("new", "search", "profile")  # these have subcommands


def make_app(modules: Sequence[str] = MODULES) -> App:
    """The command line with the commands of these modules of this package."""
    app = App(
        help="Run sweeps and ablations of SCORER: from a YAML file to figures with confidence intervals.\n\n"
        "Exit codes of all commands: 0 done; 1 something failed; 2 wrong usage or definition; 75 interrupted.",
        epilog="Example: scorer run quickstart\n\nExample: scorer submit quickstart --profile mycluster",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    for name in modules:
        app.add_typer(import_module(f"cli.{name}").app, name=name if name in GROUPS else None)
    return app


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
        # The other commands are not imported: that would take longer than most commands themselves.
        words = asked_words() or sys.argv
        make_app([name for name in MODULES if name in words[1:2]] or MODULES)()
    except SystemExit as stopped:
        return stopped.code
    except UnicodeEncodeError as error:
        if error.object not in sys.argv:
            code, message = FAILED, _unexpected(error)
        else:
            shown = error.object.encode(errors="backslashreplace").decode()
            code, message = USAGE, f"{shown}: this argument is not valid text in the encoding of the locale"
    except (DefinitionError, DeviceError, UserCodeError) as error:
        code, message = USAGE, str(error)
    except RecordError as error:
        code, message = FAILED, str(error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # as typer does while a command runs
    except OSError as error:
        code, message = FAILED, f"{error.filename}: {error.strerror}" if error.filename else _unexpected(error)
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
