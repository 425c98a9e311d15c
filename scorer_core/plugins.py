"""Parts that users write in their own packages, named `package.module:name`: their files and hashes. No torch.

A distribution may give a part a short name by an entry point of the group `scorer.plugins`. Nothing is imported here: a
login node may not have what the part needs, and names are read often.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path

from scorer_core.support.errors import RecordError

GROUP = "scorer.plugins"
INSTALLED = {"site-packages", "dist-packages"}
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
        try:
            now = source_digest(place)
        except ValueError as error:
            raise RecordError(str(error)) from None
        if now != digest:
            raise RecordError(
                f"{place}: {source_file(place)} has changed since these runs were planned, and the result would be"
                " another run; plan the sweep again from its YAML file, or restore the file"
            )


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
    for place in sorted(parts):
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


def code_digest(parts: Iterable[str]) -> str:
    """A hash of all code that may change what the users' `parts` compute: an import may be anywhere in it.

    That is their packages, each loaded module that is in no installed package, and the names and versions of the
    installed ones.

    Raises:
        RecordError: if a package is not found.
        OSError: if a file cannot be read.
    """
    files = {
        file for place in packages(parts).values() for file in ([place] if place.is_file() else place.rglob("*.py"))
    }
    installed = (sys.prefix, sys.base_prefix, str(Path(__file__).parent))
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        is_installed = file.startswith(installed) or INSTALLED & {*Path(file).parts}
        if (
            file.endswith(".py") and not is_installed and Path(file).is_absolute()
        ):  # torch names files that do not exist
            files.add(Path(file).resolve())
    versions = (entry.name for folder in map(Path, sys.path) if folder.is_dir() for entry in folder.glob("*.dist-info"))
    digest = hashlib.sha256(repr(sorted(versions)).encode())
    for file in sorted(files):
        digest.update(str(file).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _spec(module: str) -> ModuleSpec | None:
    """Where Python would import `module` from. `importlib.util.find_spec` would import the packages above it."""
    found, path, name = None, None, ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        specs = (finder.find_spec(name, path) for finder in sys.meta_path)
        found = next((spec for spec in specs if spec is not None), None)
        if found is None:
            return None
        path = found.submodule_search_locations or []
    return found
