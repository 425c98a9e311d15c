"""Parts that users write in their own packages, named `package.module:name`: their files and hashes. No torch.

A distribution may give a part a short name by an entry point of the group `scorer.plugins`. Nothing is imported here: a
login node may not have what the part needs, and names are read often.
"""

import ast
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path

from scorer_core.support.errors import RecordError

GROUP = "scorer.plugins"
_IDENTIFIER = r"[^\W\d]\w*"
_PLACE = re.compile(rf"{_IDENTIFIER}(\.{_IDENTIFIER})*:{_IDENTIFIER}")


def is_place(name: str) -> bool:
    """Does `name` have the form `package.module:name`? "module:Name-v0" is a gymnasium id."""
    return _PLACE.fullmatch(name) is not None


@cache
def short_names() -> dict[str, str]:
    """The short names of installed distributions, with the place of each."""
    return {point.name: point.value.replace(" ", "") for point in entry_points(group=GROUP)}


def source_file(place: str) -> Path:
    """The file that defines the part at `place`.

    Raises:
        ValueError: if there is no such module, or it is no Python file; the message names it.
    """
    module = place.partition(":")[0]
    spec = _spec(module)
    if spec is None:
        raise ValueError(f"{place}: Python finds no module {module}; install its package, or set PYTHONPATH")
    if not spec.has_location or not (spec.origin or "").endswith(".py"):
        raise ValueError(f"{place}: {module} is not a Python file")
    return Path(str(spec.origin)).resolve()


def source_digest(place: str) -> str:
    """16 hexadecimal digits of the SHA-256 of the file that defines the part at `place`.

    Raises:
        ValueError: if there is no such file, or it does not define this name: the hash of a file that only imports the
            part would not change with it.
    """
    file = source_file(place)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{place}: {file} cannot be read: {error.strerror}") from None
    _check_defined(place, file, content)
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()[:16]


def check_unchanged(sources: Mapping[str, str]) -> None:
    """Check that the files of the user's parts are those whose hashes are in `sources`.

    Raises:
        RecordError: if one is missing or has changed; the message names the part and its file.
    """
    for place, digest in sources.items():
        if not is_place(place):
            continue  # a short name
        try:
            now = source_digest(place)
        except ValueError as error:
            raise RecordError(str(error)) from None
        if now != digest:
            raise RecordError(
                f"{place}: {source_file(place)} has changed since these runs were planned, and the result would be"
                " another run; plan the sweep again from its YAML file, or restore the file"
            )


def source_of(field: str, name: str, recorded: Mapping[str, str]) -> str | None:
    """The hash of the file of the user's part that the setting `field` names: as `recorded`, or else of the file today.

    None if `name` is no part of the user's: a task may also be an id of gymnasium, "module:Name".

    Raises:
        ValueError: if its file is not found; the message names the field.
    """
    if name in recorded:
        return recorded[name]
    if not is_place(name) or (field == "task" and not is_defined(name)):
        return None
    try:
        return source_digest(name)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def is_defined(place: str) -> bool:
    """Is the part at `place` defined by the file of its module?"""
    try:
        source_digest(place)
    except ValueError:
        return False
    return True


@cache
def _check_defined(place: str, file: Path, content: bytes) -> None:
    name = place.partition(":")[2]
    try:
        tree = ast.parse(content, str(file))
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ValueError(f"{place}: {file}{where}: {getattr(error, 'msg', error)}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            return
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
            return
    raise ValueError(f"{place}: {file} does not define {name}; name the module that defines it")


def packages(parts: Iterable[str]) -> dict[str, Path]:
    """By the name of each top-level package of the users' `parts`: its folder, or the file of a top-level module.

    Raises:
        RecordError: if one is not found, or is a namespace package over several folders.
    """
    found = {}
    for place in filter(is_place, sorted(parts)):
        top = place.partition(":")[0].partition(".")[0]
        spec = _spec(top)
        if top == __name__.partition(".")[0] or top in found:
            continue
        folders = list((spec.submodule_search_locations if spec else None) or [])
        if spec is None or len(folders) > 1:
            why = f"is in {len(folders)} folders: {', '.join(folders)}" if spec else "is not found"
            raise RecordError(f"{place}: the package {top} {why}")
        found[top] = Path(folders[0] if folders else str(spec.origin)).resolve()
    return found


def package_files(place: Path) -> dict[Path, Path]:
    """The files of a package's folder and of linked ones in it, by path; no hidden files, no compiled Python."""
    found: dict[Path, Path] = {}
    seen: set[str] = set()
    for folder, inside, files in os.walk(place, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above
            inside.clear()
            continue
        seen.add(real)
        inside[:] = sorted(name for name in inside if name[0] != "." and name != "__pycache__")
        for name in sorted(files):
            if name[0] != "." and (Path(folder) / name).is_file():
                found[(Path(folder) / name).relative_to(place)] = Path(folder) / name
    return found


def interpreter() -> list[str]:
    """The command of a Python that imports nothing from the current folder, unless scorer itself is there."""
    here = Path(__file__).resolve().parent.parent
    return [sys.executable, *([] if Path.cwd().resolve() == here else ["-P"])]


def _spec(module: str) -> ModuleSpec | None:
    """Where Python would import `module` from. `importlib.util.find_spec` would import the packages above it."""
    found: ModuleSpec | None = None
    path: list[str] | None = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        try:
            specs = (finder.find_spec(name, path) for finder in sys.meta_path)
            found = next((spec for spec in specs if spec is not None), None)
            folders = list((found.submodule_search_locations if found else None) or [])
        except KeyError:  # a namespace package in another one, which Python finds only after an import of the outer one
            folders = [str(Path(above) / part) for above in path or () if (Path(above) / part).is_dir()]
            found = ModuleSpec(name, None, is_package=True)
            found.submodule_search_locations = folders
        if found is None:
            return None
        path = folders
    return found
