"""From the name or path that a user gives to a folder of outputs."""

from collections.abc import Sequence
from pathlib import Path

from scorer_core.support.commands import shown_path
from sweeps import definition, errors, loading


def sweep_folder(sweep: str, outputs: Path, overrides: Sequence[str] = ()) -> Path:
    """The folder of `sweep`, which may not exist yet.

    `sweep` is the path of a folder, the name of a folder in `outputs`, or the name or path of a definition.

    Raises:
        DefinitionError: if the definition cannot be read, or there is no such sweep.
    """
    renamed = any(override.startswith("name=") for override in overrides)
    for folder in () if renamed else (Path(sweep), outputs / sweep):
        if (folder / "sweep.yaml").exists():
            return folder.resolve()
    if Path(sweep).suffix or is_definition(sweep):
        name = loading.read(sweep, overrides)[0].get("name", "")
        return outputs / str(name)  # without expanding the definition to its runs
    there = sorted(path.parent.name for path in outputs.glob("*/sweep.yaml"))
    raise errors.DefinitionError(
        f"{sweep}: not a file, not a built-in sweep, and not a sweep in {outputs}; there: {', '.join(there) or 'none'}"
    )


def is_definition(sweep: str) -> bool:
    """Is `sweep` the path of a file or a shipped name? Otherwise it can only be the name of a folder."""
    return Path(sweep).is_file() or sweep in loading.shipped()


def load(sweep: str, outputs: Path, overrides: Sequence[str] = ()) -> tuple[definition.Sweep, Path]:
    """The sweep to train and the folder of its outputs: of a definition, or of a sweep that has a folder already.

    Raises:
        DefinitionError: if there is no such sweep, or its definition is not valid.
    """
    folder = _started_folder(sweep, outputs)
    if folder:
        return loading.load_submitted(folder, overrides), folder.parent
    return loading.load(sweep, overrides), outputs


def source(sweep: str, outputs: Path, overrides: Sequence[str] = ()) -> str:
    """The file and the overrides of the definition that `load` reads, as text."""
    folder = _started_folder(sweep, outputs)
    written = shown_path(folder / "sweep.yaml") if folder else sweep
    return " ".join([written, *(f"-s {override}" for override in overrides)])


def _started_folder(sweep: str, outputs: Path) -> Path | None:
    """The folder whose frozen definition `sweep` means; None if it means another definition."""
    for folder in (Path(sweep), *(() if is_definition(sweep) else (outputs / sweep,))):
        if (folder / "sweep.yaml").exists():
            return folder.resolve()
    return None
