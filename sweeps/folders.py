"""Which sweep a user means: a built-in name, a YAML file, or an existing sweep by its name or folder."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scorer_core.support.commands import shown_path
from sweeps import loading
from sweeps.definition import Sweep
from sweeps.errors import DefinitionError
from sweeps.reading import CHECKSUM
from sweeps.text_types import is_folder_name


def sweep_folder(sweep: str, outputs: Path, overrides: Sequence[str] = ()) -> Path:
    """The folder of `sweep`, which is a folder, a name in `outputs`, a built-in name or a YAML file.

    The folder of a built-in name or a YAML file may not exist yet.

    Raises:
        DefinitionError: if the definition cannot be read, or there is no such sweep.
    """
    renamed = any(override.startswith("name=") for override in overrides)
    if not renamed and (folder := next(_places(sweep, outputs), None)):
        return folder.resolve()
    if Path(sweep).suffix or is_definition(sweep):
        raw, read = loading.read(sweep, overrides)
        try:
            return outputs / is_folder_name(str(raw.get("name", "")))  # without expanding the grid
        except ValueError as error:
            raise DefinitionError(f"{read}: name: {error}") from None
    there = sorted(path.parent.name for path in outputs.glob("*/sweep.yaml"))
    raise DefinitionError(
        f"{sweep}: not a file, not a built-in sweep, and not a sweep in {outputs}; sweeps there: "
        f"{', '.join(there) or 'none'}"
    )


def is_definition(sweep: str) -> bool:
    """Whether `sweep` is a file or a built-in name. Otherwise it can only be an existing sweep."""
    return Path(sweep).is_file() or sweep in loading.shipped()


def load(sweep: str, outputs: Path, overrides: Sequence[str] = ()) -> tuple[Sweep, Path]:
    """The definition of `sweep`, and the folder of outputs in which its runs are trained.

    A built-in name or a YAML file is read. The definition of an existing sweep is the one frozen in its folder.

    Raises:
        DefinitionError: if there is none, or it is not valid.
    """
    folder = _existing(sweep, outputs)
    if folder:
        return loading.load_submitted(folder, overrides), folder.parent
    return loading.load(sweep, overrides), outputs


def source(sweep: str, outputs: Path, overrides: Sequence[str] = ()) -> str:
    """The file (or built-in name) that `load` reads, with the overrides."""
    folder = _existing(sweep, outputs)
    written = shown_path(folder / "sweep.yaml") if folder else sweep
    return " ".join([written, *(f"-s {override}" for override in overrides)])


def _existing(sweep: str, outputs: Path) -> Path | None:
    """The folder whose frozen definition `load` reads; None if it reads a built-in name or a YAML file."""
    outside = is_definition(sweep)
    return next((folder.resolve() for folder in _places(sweep, outputs) if not outside or folder == Path(sweep)), None)


def _places(sweep: str, outputs: Path) -> Iterator[Path]:
    """The folders of a sweep that `sweep` may mean: a path, or a name in `outputs`."""
    if is_sweep_folder(Path(sweep)):
        yield Path(sweep)
    if (outputs / sweep / "sweep.yaml").exists():
        yield outputs / sweep


def is_sweep_folder(folder: Path) -> bool:
    """Is `folder` a sweep's in outputs? A folder with a definition that the user wrote is none."""
    definition = folder / "sweep.yaml"
    if not definition.exists():
        return False
    if not definition.is_file() or any((folder / name).is_dir() for name in ("packs", "imported")):
        return True
    try:
        with definition.open("rb") as file:
            return file.read(len(CHECKSUM)) == CHECKSUM
    except OSError:  # it is reported where it is read
        return True


def changes(sweep: str, folder: Path, overrides: Sequence[str] = ()) -> list[str]:
    """The keys in which a built-in name or YAML file differs from the definition frozen in `folder` (outputs/<sweep>).

    For example `seeds` or `base.gamma (0.99, now 0.95)`, and the user's own parts whose files have changed; `overrides`
    apply to both. `question` and `paper` are not compared: no run and no score depends on them. Empty for an existing
    sweep, or if a definition is not valid.
    """
    kept = folder / "sweep.yaml"
    if not is_definition(sweep) or is_sweep_folder(Path(sweep)) or not kept.exists():
        return []
    try:
        frozen, written = (Sweep.model_validate(loading.read(name, overrides)[0]) for name in (str(kept), sweep))
        before, now = (
            found.model_dump(exclude={"name", "question", "paper", "sources"}) for found in (frozen, written)
        )
        # Without parts of the user's, the grid is not expanded only for this.
        sources = written.sources_now if frozen.sources else {}
    except (ValidationError, DefinitionError):
        return []
    changed = [place for place, digest in frozen.sources.items() if sources.get(place, digest) != digest]
    return [*_differences("", before, now), *(f"{place} (its file)" for place in changed)]


def _differences(place: str, before: Any, now: Any) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping) and before and now:
        for key in dict.fromkeys([*before, *now]):
            yield from _differences(f"{place}.{key}" if place else str(key), before.get(key), now.get(key))
    elif before != now:
        short = all(isinstance(value, bool | int | float) for value in (before, now))
        yield f"{place} ({before}, now {now})" if short else place
