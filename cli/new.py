"""`scorer new idea`: a project of the user's own, with one function to edit."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import FAILED, USAGE, exit_with_error, out
from cli.help import App
from cli.idea_project import fault_of_name, files
from scorer_core.support.commands import command, shown_path

app = App(help="Start a project of your own.", epilog="Example: scorer new idea half", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Start a project of your own."""


@app.command(epilog="Example: scorer new idea half && pip install -e half && scorer run half/sweep.yaml")
def idea(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the folder, the package and the function.")],
) -> None:
    """Write a small project with an idea for the follower's objective: the function, its test and a sweep.

    The sweep compares the idea with the built-in objectives. Edit the function, then run the sweep.
    """
    if fault := fault_of_name(name):
        exit_with_error(f"{name}: {fault}", USAGE)
    folder = Path(name)
    try:
        folder.mkdir()
        for path, content in files(name).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content, encoding="utf-8")
    except FileExistsError:
        exit_with_error(f"{folder}: exists already; choose another name", USAGE)
    except OSError as error:
        exit_with_error(f"{folder}: cannot be written: {error.strerror}", FAILED)
    out.print(f"Wrote {folder}/. Next:")
    out.print(f"  pip install -e {folder}")
    out.print(f"  {command('run', shown_path(folder / 'sweep.yaml'))}")
    out.print(f"The idea is one function in {folder}/src/{name}/objective.py: edit it, and run the sweep again.")
