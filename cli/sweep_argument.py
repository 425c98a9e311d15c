"""Which sweep or search an argument means. All commands accept the same forms, which `options.py` describes.

The rules for sweeps are in sweeps/folders.py. Here they end the command with a message where nothing is found, and
print how a definition differs from the one that is frozen in the folder of its sweep.
"""

from collections.abc import Sequence
from pathlib import Path

from cli.console import FAILED, USAGE, err, exit_with_error
from scorer_core.support.commands import command, command_on, shown_path
from scorer_core.support.text import folded
from sweeps import folders, loading
from sweeps.definition import Sweep
from sweeps.errors import DefinitionError
from sweeps.user_parts import check_imports

SHOWN_CHANGES = 6


def definition(sweep: str, outputs: Path, overrides: Sequence[str] = ()) -> tuple[Sweep, Path]:
    """`folders.load`: the definition of a sweep, and the folder of outputs in which its runs are trained.

    Raises:
        DefinitionError: if there is none, it is not valid, or one of the user's own parts cannot be imported.
    """
    try:
        loaded, outputs = folders.load(sweep, outputs, overrides)
        if not loaded.sources:  # those of an existing sweep are compared with their hashes before they train
            check_imports(loaded.sources_now)
        return loaded, outputs
    except DefinitionError:
        _refuse_search(sweep, outputs)
        raise


def submitted_folder(sweep: str, outputs: Path) -> Path:
    """The folder of an existing sweep, with a note on stderr if `sweep` is a definition that has changed since.

    Raises:
        DefinitionError: if there is no such sweep.
    """
    submit = command("submit", sweep, "--profile", "NAME", outputs=outputs)
    return existing_folder(sweep, outputs, f"nothing was submitted here. Submit it with: {submit}").resolve()


def existing_folder(sweep: str, outputs: Path, otherwise: str, overrides: Sequence[str] = ()) -> Path:
    """The folder of an existing sweep, with a note on stderr if `sweep` is a definition that has changed since.

    Without such a folder, the command ends with the message `otherwise`.

    Raises:
        DefinitionError: if there is no such sweep.
    """
    try:
        folder = folders.sweep_folder(sweep, outputs, overrides)
    except DefinitionError:
        _refuse_search(sweep, outputs)
        raise
    if not (folder / "sweep.yaml").exists():
        _refuse_search(sweep, outputs)
        exit_with_error(f"{folder}: {otherwise}", FAILED)
    if differing := folders.changes(sweep, folder, overrides):
        again = command("run", sweep, *(word for override in overrides for word in ("-s", override)), outputs=outputs)
        err.print(
            f"note: {sweep} differs from {shown_path(folder / 'sweep.yaml')}, which this command uses, in: "
            f"{folded(differing, SHOWN_CHANGES)}. To train the runs of {sweep}: {again}"
        )
    return folder


def search_folder(search: str, outputs: Path) -> Path | None:
    """The folder of an existing search, named in any of the forms; None if there is none."""
    places = [Path(search), outputs / search]
    if Path(search).is_file() or search in loading.shipped_searches():
        raw = loading.read(search)[0]
        places = [outputs / str(raw.get("name", ""))] if "space" in raw else []
    return next((place.resolve() for place in places if (place / "search.yaml").exists()), None)


def named_search(search: str | None, outputs: Path) -> tuple[Path, str | None]:
    """The folder of outputs and the name of a search, as `sweeps.study.find_study` takes them."""
    folder = search_folder(search, outputs) if search is not None else None
    return (folder.parent, folder.name) if folder else (outputs, search)


def _refuse_search(name: str, outputs: Path) -> None:
    folder = search_folder(name, outputs)
    if folder:
        shown = command_on("search show", folder)
        exit_with_error(f"{name}: is a search, and this command takes a sweep. See the search with: {shown}", USAGE)
