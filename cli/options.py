"""Options and arguments that several commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from scorer_core.support import commands
from sweeps.errors import DefinitionError

SweepArgument = Annotated[
    str,
    typer.Argument(metavar="SWEEP", help="A shipped name, a YAML file, or a sweep's folder: its name or path."),
]
SearchArgument = Annotated[
    str | None, typer.Argument(metavar="[SEARCH]", help="Its name; without one, the search begun last.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-s", "--set", metavar="KEY=VALUE", help="Override any field by its dotted name; may be repeated."),
]


def _outputs(given: Path) -> Path:
    for place in (given, *given.parents):
        if place.is_symlink() and not place.exists():
            target = os.path.realpath(place)
            raise DefinitionError(
                f"--outputs {given}: {place} is a link to {target}, a folder that does not exist; create that folder "
                "or give another --outputs"
            )
    commands.given_outputs = given
    return given


Outputs = Annotated[Path, typer.Option(envvar="SCORER_OUTPUTS", callback=_outputs, help="Where sweeps are kept.")]
Lanes = Annotated[int | None, typer.Option(min=1, help="Runs trained together, at most; else what is done first.")]
Processes = Annotated[int | None, typer.Option(min=1, help="Packs trained at a time, a core each; else all cores.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]
