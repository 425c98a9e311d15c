"""What every verb of the command line shares: its terminal, its exit codes, and the options that mean the same."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

FAILED, USAGE, INTERRUPTED = 1, 2, 75

out, err = Console(), Console(stderr=True)

SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="A shipped name, or the path of a YAML file.")]
SearchArgument = Annotated[
    str | None, typer.Argument(metavar="[SEARCH]", help="Its name; without one, the search begun last.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-s", "--set", metavar="KEY=VALUE", help="Override any field by its dotted name; may be repeated."),
]
Outputs = Annotated[Path, typer.Option(envvar="SCORER_OUTPUTS", help="Where sweeps are kept.")]
Lanes = Annotated[int | None, typer.Option(min=1, help="Runs trained together, at most; else what is done first.")]
Processes = Annotated[int | None, typer.Option(min=1, help="Packs trained at a time, a core each; else all cores.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]
DEFAULT_OUTPUTS = Path("outputs")


def print_json(value: Any, indent: int | None = 1) -> None:
    """Indented for a reader; without, ten times faster for what is large."""
    sys.stdout.write(json.dumps(value, indent=indent) + "\n")


def stop(message: str, code: int) -> NoReturn:
    """End the program with one line on what is wrong."""
    err.print(message, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(code)


def duration(seconds: float) -> str:
    """`seconds` for a reader: in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class RunByDefault(TyperGroup):
    """A group of verbs of which `run` need not be said: what is no verb of it is what is to be run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)


def count(number: int, noun: str) -> str:
    """`1 pack`, `2 packs`, `1,000 packs`."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"
