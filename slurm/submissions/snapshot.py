"""Snapshots: a copy of the submitted code, from which its jobs run. The same code is copied only once per sweep."""

import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import scorer_core
from scorer_core import plugins
from scorer_core.provenance import CODE_ROOT, SNAPSHOT, code_version, user_code
from scorer_core.support.errors import RecordError
from scorer_core.support.files import refuse_links
from slurm.jobs import COMMAND_VERSION

PACKAGES = ("cli", "scorer_core", "sweeps", "slurm", "analysis")
CODE = "SCORER_CODE"  # the variable of a job that names the folder of its code
SUFFIXES = (".py", ".yaml", ".json", ".css", ".js")
MOST_USER_BYTES = 100 * 2**20  # of users' packages


def files(source: Path = CODE_ROOT) -> Iterator[Path]:
    """The files of the command line and of the jobs, relative to `source`."""
    for package in PACKAGES:
        found = (path.relative_to(source) for path in (source / package).rglob("*") if path.suffix in SUFFIXES)
        yield from sorted(path for path in found if not _private(path))


def user_files(packages: Mapping[str, Path]) -> dict[Path, Path]:
    """The files of users' packages and modules: by their path in a snapshot, where they are.

    All files are copied, because a package may read its data, except hidden ones and compiled Python.

    Raises:
        RecordError: if they are larger than `MOST_USER_BYTES` together.
    """
    found: dict[Path, Path] = {}
    for top, place in packages.items():
        if place.is_file():
            found[Path(place.name)] = place
            continue
        found |= {top / inside: path for inside, path in plugins.package_files(place).items()}
    size = sum(path.stat().st_size for path in found.values())
    if size > MOST_USER_BYTES:
        folders = ", ".join(str(place) for place in packages.values())
        raise RecordError(
            f"{folders}: {size / 2**20:,.0f} MiB, and the copy of the code that jobs run may have "
            f"{MOST_USER_BYTES >> 20} MiB; keep data outside of the package"
        )
    return found


def _private(path: Path) -> bool:
    """Is it hidden, or a profile, which may contain secrets? Jobs need neither."""
    return path.parts[:2] == ("slurm", "profiles") or any(part.startswith(".") for part in path.parts)


def _digest(contents: Mapping[Path, bytes]) -> str:
    digest = hashlib.sha256(b"".join(str(path).encode() + b"\0" + text for path, text in contents.items()))
    return digest.hexdigest()[:16]


def save_snapshot(codes: Path, source: Path = CODE_ROOT, parts: Collection[str] = ()) -> Path:
    """Copy the code at `source` into a folder of `codes`, unless a copy exists; the folder.

    The folder is named after a hash of its files.

    Args:
        codes: the folder of the snapshots.
        source: of scorer.
        parts: "package.module:name" of the users' parts, whose packages are copied too.

    Raises:
        RecordError: if it cannot be written, the files of an existing copy were changed, or a user's package is not
            found or too large.
    """
    packages = plugins.packages(parts)
    contents = {path: (source / path).read_bytes() for path in files(source)}
    contents |= {path: place.read_bytes() for path, place in user_files(packages).items()}
    kept = codes / _digest(contents)
    refuse_links(kept / SNAPSHOT)
    if kept.exists():
        copied = {top: kept / (top if place.is_dir() else place.name) for top, place in packages.items()}
        if _digest({path: (kept / path).read_bytes() for path in (*files(kept), *user_files(copied))}) != kept.name:
            raise RecordError(f"{kept}: its files were changed after they were copied; remove this folder")
        return kept
    making = codes / f".{kept.name}.{uuid.uuid4().hex[:8]}"
    version = code_version(source) | ({"user_code": user_code(parts)} if packages else {})
    try:
        for path, text in contents.items():
            (making / path).parent.mkdir(parents=True, exist_ok=True)
            (making / path).write_bytes(text)
        (making / SNAPSHOT).write_text(json.dumps(version, indent=1), encoding="utf-8")
        os.rename(making, kept)  # noqa: PTH104, atomic
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        if not kept.exists():  # otherwise another submission has written it
            raise RecordError(f"{kept}: cannot be written: {error.strerror}") from error
    return kept


def is_startable(code: Path) -> bool:
    """Do the commands that this version starts jobs with exist, with the same options, in the snapshot `code`?"""
    try:
        text = (code / "slurm" / "jobs" / "__init__.py").read_text(encoding="utf-8")
    except OSError:
        return False
    found = re.search(r"^COMMAND_VERSION = (\d+)$", text, re.MULTILINE)
    return found is not None and int(found[1]) == COMMAND_VERSION


def check_code() -> None:
    """Exit with one line if the process of a job has not imported the code that was submitted."""
    wanted, found = os.environ.get(CODE), Path(str(scorer_core.__file__)).parent.parent
    if wanted and Path(wanted).resolve() != found.resolve():
        sys.exit(f"this job runs the code in {found}, and {wanted} was submitted: check `setup` for changes of Python")
