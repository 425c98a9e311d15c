"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

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
Outputs = Annotated[Path, typer.Option(envvar="SCORER_OUTPUTS", help="Where sweeps are kept.")]
Lanes = Annotated[int | None, typer.Option(min=1, help="Runs trained together, at most; else what is done first.")]
Processes = Annotated[int | None, typer.Option(min=1, help="Packs trained at a time, a core each; else all cores.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]
