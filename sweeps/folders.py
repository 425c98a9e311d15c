"""Which folder of outputs a user means."""

from collections.abc import Sequence
from pathlib import Path

from scorer_core.support.commands import shown_path
from sweeps import definition, errors, loading


def sweep_folder(sweep: str, outputs: Path, overrides: Sequence[str] = ()) -> Path:
    """The folder of `sweep`: its path, its name under `outputs`, or that of the definition with this name or path.

    Whether it exists is for the caller to check.

    Raises:
        DefinitionError: if the definition cannot be read, or there is no such sweep.
    """
    renamed = any(override.startswith("name=") for override in overrides)
    for folder in () if renamed else (Path(sweep), outputs / sweep):
        if (folder / "sweep.yaml").exists():
            return folder.resolve()
    if Path(sweep).suffix or is_definition(sweep):
        name = loading.read(sweep, overrides)[0].get("name", "")
        return outputs / str(name)  # of thousands of runs, only that
    there = sorted(path.parent.name for path in outputs.glob("*/sweep.yaml"))
    raise errors.DefinitionError(
        f"{sweep}: no such file, no shipped sweep, and no sweep in {outputs}, which has {', '.join(there) or 'none'}"
    )


def is_definition(sweep: str) -> bool:
    """Is it the path of a file, or a shipped name? Otherwise it can only be a folder's name."""
    return Path(sweep).is_file() or sweep in loading.shipped()


def load(sweep: str, outputs: Path, overrides: Sequence[str] = ()) -> tuple[definition.Sweep, Path]:
    """What to train, and in which folder of outputs: a definition, or a sweep that has a folder already.

    Raises:
        DefinitionError: if there is none, or it is not valid.
    """
    folder = _begun(sweep, outputs)
    if folder:
        return loading.load_submitted(folder, overrides), folder.parent
    return loading.load(sweep, overrides), outputs


def source(sweep: str, outputs: Path, overrides: Sequence[str] = ()) -> str:
    """Where the definition that `load` reads is written, in words."""
    folder = _begun(sweep, outputs)
    written = shown_path(folder / "sweep.yaml") if folder else sweep
    return " ".join([written, *(f"-s {override}" for override in overrides)])


def _begun(sweep: str, outputs: Path) -> Path | None:
    """The folder whose frozen definition is meant; None if it is another definition."""
    for folder in (Path(sweep), *(() if is_definition(sweep) else (outputs / sweep,))):
        if (folder / "sweep.yaml").exists():
            return folder.resolve()
    return None
