"""Which folder of outputs a user means."""

from collections.abc import Sequence
from pathlib import Path

from sweeps import definition


def sweep_folder(sweep: str, outputs: Path, overrides: Sequence[str] = ()) -> Path:
    """The folder of `sweep`: its path, its name under `outputs`, or that of the definition with this name or path.

    Whether it exists is for the caller to check.

    Raises:
        DefinitionError: if the definition cannot be read.
    """
    renamed = any(override.startswith("name=") for override in overrides)
    for folder in () if renamed else (Path(sweep), outputs / sweep):
        if (folder / "sweep.yaml").exists():
            return folder.resolve()
    if Path(sweep).suffix or Path(sweep).is_file() or sweep in definition.shipped():
        name = definition.read(sweep, overrides)[0].get("name", "")
        return outputs / str(name)  # of thousands of runs, only that
    return outputs / sweep


def load(sweep: str, outputs: Path, overrides: Sequence[str] = ()) -> tuple[definition.Sweep, Path]:
    """What to train, and in which folder of outputs: a definition, or a sweep that has a folder already.

    Raises:
        DefinitionError: if there is none, or it is not valid.
    """
    by_name = not Path(sweep).is_file() and sweep not in definition.shipped()
    for folder in (Path(sweep), *([outputs / sweep] if by_name else ())):
        if (folder / "sweep.yaml").exists():
            folder = folder.resolve()
            return definition.load_submitted(folder, overrides), folder.parent
    return definition.load(sweep, overrides), outputs
