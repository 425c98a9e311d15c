"""Where definitions of sweeps are read from: shipped ones, the user's files, and the frozen copies in outputs."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from scorer_core.support.commands import command
from sweeps.definition import SETTINGS, Sweep
from sweeps.errors import DefinitionError, one_line, reported_fault
from sweeps.old_names import renamed, renamed_override
from sweeps.reading import apply_override, read_mapping, read_text

SHIPPED = Path(__file__).parent


def load(sweep: str, overrides: Sequence[str] = ()) -> Sweep:
    """The definition called `sweep`: a shipped name, or the path of a YAML file; `overrides` are `dotted.key=value`.

    Raises:
        DefinitionError: if there is no such definition, or it is not valid.
    """
    raw, source = read(sweep, overrides)
    if "space" in raw:
        raise DefinitionError(f"{source}: has a `space`, so it is a search. Run it with: {command('search', sweep)}")
    found = parse(raw, source)
    try:
        found.check_exclusions()
    except DefinitionError as error:
        raise DefinitionError(f"{source}: {error}") from None
    return found


def load_submitted(folder: Path, overrides: Sequence[str] = ()) -> Sweep:
    """The definition in `folder`, an output folder, as it was submitted; `overrides` are `dotted.key=value`.

    The sweep has the name of the folder, because the folder may have been renamed.

    Raises:
        DefinitionError: if there is no definition, or it is not valid.
    """
    raw, source = read(str(folder / "sweep.yaml"), overrides)
    return parse(raw | {"name": "renamed"}, source).model_copy(update={"name": folder.resolve().name})


def read(name: str, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], str]:
    """The content of the definition `name`, a shipped name or the path of a YAML file, and the path of its file.

    Args:
        name: see above; a file wins over a shipped definition of the same name, a folder does not.
        overrides: `dotted.key=value`, applied in their order.

    Raises:
        DefinitionError: if there is no such definition, or it is not YAML.
    """
    path = Path(name)
    if not path.suffix and not _is_file(path):  # a folder of outputs may have the name of a shipped sweep
        path = SHIPPED / f"{name}.yaml"
        if not _is_file(path):
            names = ", ".join([*shipped(), *shipped_searches()])
            raise DefinitionError(f"{name}: not a file and not a built-in sweep or search; built-in: {names}")
    raw = read_mapping(path)
    try:
        raw = renamed(raw)
    except DefinitionError as error:
        raise DefinitionError(f"{path}: {error}") from None
    for override in overrides:
        apply_override(raw, renamed_override(override))
    return raw, str(path)


def parse(raw: Mapping[str, Any], source: str) -> Sweep:
    """`raw` as a sweep of which every run is valid.

    Args:
        raw: keys and values in the spelling of this version.
        source: where `raw` was read, for messages.

    Raises:
        DefinitionError: if it is not valid.
    """
    try:
        sweep = Sweep.model_validate(raw)
        sweep.runs  # noqa: B018, validates every cell before anything is written
    except ValidationError as error:
        hint = ""
        fault = reported_fault(error)
        if fault["type"] == "extra_forbidden" and fault["loc"][0] in SETTINGS:
            hint = f"; did you mean base.{fault['loc'][0]}?"
        raise DefinitionError(f"{source}: {one_line(error)}{hint}") from None
    except DefinitionError as error:
        raise DefinitionError(f"{source}: {error}") from None
    return sweep


def dump(sweep: Sweep) -> str:
    """The definition as YAML that `load` reads back to an equal sweep."""
    raw = sweep.model_dump(mode="json", by_alias=True)
    if sweep.seeds == list(range(len(sweep.seeds))):
        raw["seeds"] = len(sweep.seeds)
    raw["sources"] = sweep.sources_now
    if not sweep.sources_now:
        del raw["sources"]
    return yaml.safe_dump(raw, sort_keys=False)


def shipped() -> list[str]:
    """Names of the sweeps that come with scorer."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml") if not _is_search(path))


def shipped_searches() -> list[str]:
    """Names of the searches that come with scorer."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml") if _is_search(path))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be read
        return False


def _is_search(path: Path) -> bool:
    return bool(re.search(r"^space:", read_text(path), re.MULTILINE))
