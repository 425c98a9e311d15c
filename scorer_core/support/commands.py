"""The commands in messages and pages: quoted for a shell, with paths relative to the current folder."""

import os
import shlex
from pathlib import Path

DEFAULT_OUTPUTS = Path("outputs")
given_outputs: Path | None = None  # `--outputs` of the command that runs now; it is printed as its user wrote it


def command(*words: object, outputs: Path | None = None) -> str:
    """`scorer WORDS`, with `--outputs` unless `outputs` is the folder that the command takes without it."""
    default = os.environ.get("SCORER_OUTPUTS") or DEFAULT_OUTPUTS
    if outputs is not None and os.path.realpath(outputs) != os.path.realpath(default):
        given = given_outputs is not None and os.path.realpath(outputs) == os.path.realpath(given_outputs)
        words = (*words, "--outputs", given_outputs if given else shown_path(outputs))
    return shlex.join(["scorer", *map(str, words)])


def command_on(name: str, folder: Path, *options: object) -> str:
    """`scorer NAME` on the folder of a sweep or a search, by the name that this folder has now."""
    folder = folder.resolve()
    return command(*name.split(), folder.name, *options, outputs=folder.parent)


def logs_command(pack: Path) -> str:
    """`scorer logs` on the folder of a pack, with the name of its sweep: its copy has packs of the same ids."""
    sweep = pack.parent.parent.resolve()
    return command("logs", f"{sweep.name}/{pack.name}", outputs=sweep.parent)


def run_command(folder: Path) -> str:
    """`scorer run` on the folder of a sweep: by its path, because its name may also be that of a shipped sweep."""
    return command("run", shown_path(folder))


def shown_path(path: Path) -> str:
    """`path` from the current folder if it is inside, otherwise absolute."""
    path, here = path.resolve(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def retrain(sweep: Path) -> str:
    """The command that trains the runs of the damaged packs in the folder `sweep` again."""
    submitted = any(sweep.glob("submissions/*/submission.json"))
    again = command_on("resume", sweep) if submitted else run_command(sweep)
    return f"To train them again: {command_on('clean', sweep, '--state', 'damaged')} && {again}"
