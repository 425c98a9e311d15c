"""Machine code that earlier processes of this user compiled: one file per function. Without it, only time is lost.

    <cache>/<key>.code      a line with the SHA-256 of the key and the rest, a line of JSON, and the object file

The key is a hash of everything that changes the code. Files are replaced as a whole, so that processes may write the
same one at the same time. A file is read only if nobody else can write it, since what is in it is run. No torch at
import.
"""

import hashlib
import json
import os
import platform
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scorer_core.provenance import add_training_code
from scorer_core.support.errors import RecordError
from scorer_core.support.files import open_private, replace_file

SUFFIX = ".code"
SOURCE = hashlib.sha256()  # of scorer_core, as it is when it is imported
try:
    add_training_code(SOURCE)
except OSError:
    SOURCE = None
MOST_BYTES = 200 * 2**20  # of the folder; the files that were not used for the longest time go first


def folder() -> Path:
    """The cache of this user: $XDG_CACHE_HOME/scorer/code, or ~/.cache/scorer/code.

    Raises:
        RuntimeError: if this user has no home directory.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path("~/.cache").expanduser()) / "scorer" / "code"


class CodeCache:
    """The code of one kind of run on one kind of processor.

    Args:
        shape_id: of the runs. All parts that they name must be in scorer_core: the key has no other source.
        processor: name and features of the CPU, as LLVM knows them.
    """

    def __init__(self, shape_id: str, processor: str):
        parts = [shape_id, processor, platform.machine(), platform.libc_ver(), platform.python_version()]
        parts += [version(package) for package in ("torch", "llvmlite")]
        self._base = None if SOURCE is None else SOURCE.copy()
        if self._base:
            self._base.update(repr(parts).encode())

    def find(self, key: str, form: type) -> Any:
        """The `form` (a NamedTuple that begins with the code) that was kept under `key`; None if there is none."""
        try:
            path = self._path(key)
            with open_private(path) as file:
                digest, rest = file.read().split(b"\n", 1)
            if digest.decode() != _digest(path, rest):
                return None
            described, code = rest.split(b"\n", 1)
            with suppress(OSError):
                os.utime(path)
            return form(code, *json.loads(described))
        except (OSError, RuntimeError, ValueError, TypeError):
            return None

    def keep(self, key: str, made: Any) -> None:
        """Write `made` for later processes, if the file system accepts it."""
        code, *described = made
        rest = json.dumps(described).encode() + b"\n" + code
        with suppress(RecordError, OSError, RuntimeError):
            path = self._path(key)
            content = _digest(path, rest).encode() + b"\n" + rest
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, content, 0o600)
            _remove_oldest(path.parent)

    def _path(self, key: str) -> Path:
        if self._base is None:
            raise RuntimeError("the source of scorer_core cannot be read")
        digest = self._base.copy()
        digest.update(key.encode())
        return folder() / f"{digest.hexdigest()[:32]}{SUFFIX}"


def _digest(path: Path, rest: bytes) -> str:
    return hashlib.sha256(path.name.encode() + rest).hexdigest()


def _remove_oldest(cache: Path) -> None:
    found = []
    for path in cache.iterdir():
        status = path.stat()
        if path.suffix == ".tmp" and time.time() - status.st_mtime > 3600:  # a process died while it wrote
            path.unlink()
        elif path.suffix == SUFFIX:
            found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= MOST_BYTES:
            break
        path.unlink()
        total -= size
