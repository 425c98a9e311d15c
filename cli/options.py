"""Options and arguments that several commands share: the same option has the same help everywhere."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cli import completion
from scorer_core.support import commands
from slurm.profile import checked_device
from slurm.status import STATES
from sweeps.errors import DefinitionError

STATE_NAMES = ", ".join(STATES)
SEARCH_FORMS = "Built-in name, YAML file, or existing search (its name in --outputs, or its folder)."
EXCLUDES = "Repeatable; a leading ! excludes."

SweepArgument = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP",
        help="Built-in name, YAML file, or existing sweep (its name in --outputs, or its folder).",
        autocompletion=completion.sweep,
    ),
]
SearchArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SEARCH",
        help=f"{SEARCH_FORMS[:-1]} (default: the most recent search).",
        autocompletion=completion.search,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "-s", "--set", metavar="KEY=VALUE", help="Override a field, by its dotted name: base.gamma=0.95. Repeatable."
    ),
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


def _device(name: str) -> str:
    try:
        return checked_device(name)
    except ValueError as error:
        raise DefinitionError(f"--device: {error}") from None


Outputs = Annotated[
    Path,
    typer.Option(
        metavar="FOLDER", envvar="SCORER_OUTPUTS", callback=_outputs, help="Folder that holds all sweeps and searches."
    ),
]
Lanes = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Maximum runs per pack (default: chosen for the shortest estimated time)."),
]
Processes = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Packs trained in parallel, one core each (default: all cores).")
]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        callback=_device,
        help="Device to train on; choose from: cpu, cuda, cuda:N, auto (a GPU if there is one).",
    ),
]
CommitSeconds = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Seconds between checkpoints.")]

ProfileName = Annotated[
    str,
    typer.Option(
        "--profile",
        envvar="SCORER_PROFILE",
        metavar="NAME|PATH",
        help="Profile to run under; `local` is this machine.",
        autocompletion=completion.profile,
    ),
]
LastProfile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME|PATH",
        help="Profile to run under (default: the one used last for this sweep).",
        autocompletion=completion.profile,
    ),
]
After = Annotated[
    str | None,
    typer.Option(
        metavar="JOBID|SWEEP",
        help="Start after this Slurm job, or after all queued jobs of this sweep or search. "
        "Refused if the profile has scheduler: local.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the packs and the job script; write and submit nothing.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask for confirmation.")]
Everything = Annotated[
    bool, typer.Option("--all", help="Show every variant; a table of more than 50 variants is summarised otherwise.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant", metavar="GLOB", help=f"Only these variants. {EXCLUDES}", autocompletion=completion.variant
    ),
]
Tasks = Annotated[list[str] | None, typer.Option("--task", metavar="GLOB", help=f"Only these tasks. {EXCLUDES}")]
Seeds = Annotated[list[str] | None, typer.Option("--seed", metavar="N|N-M", help=f"Only these seeds. {EXCLUDES}")]
States = Annotated[
    list[str] | None,
    typer.Option("--state", metavar="STATE", help=f"Only runs in this state; choose from: {STATE_NAMES}. {EXCLUDES}"),
]
