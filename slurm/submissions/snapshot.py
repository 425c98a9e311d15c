"""Snapshots: a copy of the submitted code, from which its jobs run. The same code is copied only once per sweep."""

import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import scorer_core
from scorer_core.provenance import CODE_ROOT, SNAPSHOT, code_version
from scorer_core.support.errors import RecordError
from scorer_core.support.files import refuse_links
from slurm.jobs import COMMAND_VERSION

PACKAGES = ("cli", "scorer_core", "sweeps", "slurm", "analysis")
CODE = "SCORER_CODE"  # the variable of a job that names the folder of its code
SUFFIXES = (".py", ".yaml", ".json", ".css", ".js")


def files(source: Path = CODE_ROOT) -> Iterator[Path]:
    """The files of the command line and of the jobs, relative to `source`."""
    for package in PACKAGES:
        found = (path.relative_to(source) for path in (source / package).rglob("*") if path.suffix in SUFFIXES)
        yield from sorted(path for path in found if not _private(path))


def _private(path: Path) -> bool:
    """Is it hidden, or a profile, which may contain secrets? Jobs need neither."""
    return path.parts[:2] == ("slurm", "profiles") or any(part.startswith(".") for part in path.parts)


def _digest(contents: Mapping[Path, bytes]) -> str:
    digest = hashlib.sha256(b"".join(str(path).encode() + b"\0" + text for path, text in contents.items()))
    return digest.hexdigest()[:16]


def save_snapshot(codes: Path, source: Path = CODE_ROOT) -> Path:
    """Copy the code at `source` into a folder of `codes`, unless a copy exists; the folder.

    The folder is named after a hash of its files.

    Raises:
        RecordError: if it cannot be written, or the files of an existing copy were changed.
    """
    contents = {path: (source / path).read_bytes() for path in files(source)}
    kept = codes / _digest(contents)
    refuse_links(kept / SNAPSHOT)
    if kept.exists():
        if _digest({path: (kept / path).read_bytes() for path in files(kept)}) != kept.name:
            raise RecordError(f"{kept}: its files were changed after they were copied; remove this folder")
        return kept
    making = codes / f".{kept.name}.{uuid.uuid4().hex[:8]}"
    try:
        for path, text in contents.items():
            (making / path).parent.mkdir(parents=True, exist_ok=True)
            (making / path).write_bytes(text)
        (making / SNAPSHOT).write_text(json.dumps(code_version(source), indent=1), encoding="utf-8")
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
