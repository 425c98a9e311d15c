"""Files that a crash leaves whole: atomic writes, JSON, logs and locks that are no links. No torch, no pyarrow."""

import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import IO, Any

from scorer_core.support.errors import RecordError

SWEEP_FOLDERS = ("packs", "submissions", "code", "report", "imported", "batches", "workers", "compiled", "exports")
FOLDERS_OF_A_SWEEP = 5  # between a file and the folder of its sweep, at most
PACK_NAME = re.compile(r"[0-9a-f]{16}")
WRITABLE_BY_OTHERS = 0o022


def replace_file(path: Path, content: bytes | memoryview, mode: int = 0o666) -> None:
    """Replace `path` by a file with `content`, atomically: a reader or a crash sees the old file or the new one.

    The permissions are those in `mode` that the umask allows and that an existing file already has.

    Raises:
        RecordError: if the file system refuses (full, read-only, ...), or a link leads out of the sweep's folder.
    """
    refuse_links(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            mode &= path.lstat().st_mode
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:  # noqa: PTH123
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105, the name every reader knows
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise RecordError(f"{path}: cannot be written: {error.strerror}") from error


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON (`replace_file`).

    Raises:
        RecordError: if the file system refuses, or a link leads out of the sweep's folder.
    """
    replace_file(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON content of `path`; None if the file does not exist.

    Raises:
        RecordError: if it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: cannot be read: {error}") from error


def numbered(folder: Path) -> list[Path]:
    """The entries of `folder` whose whole name is a number, smallest first; none if the folder does not exist.

    Raises:
        RecordError: if the folder cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if path.name.isascii() and path.name.isdecimal()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RecordError(f"{folder}: cannot be read: {error.strerror}") from error
    return sorted(found, key=lambda path: int(path.name))


def refuse_links(path: Path) -> None:
    """Check that a write to `path` stays in the folder of its sweep. This folder itself may be a link.

    Raises:
        RecordError: if `path`, or a folder between it and the sweep's, is a link that leads out of the sweep's.
    """
    sweep = _sweep_of(path)
    if sweep is None:
        return
    for entry in reversed([*takewhile(lambda entry: entry != sweep, (path, *path.parents))]):
        if entry.is_symlink() and not entry.resolve().is_relative_to(sweep.resolve()):
            raise RecordError(f"{entry}: is a link that leads out of {sweep}; put the file or folder itself there")


def _sweep_of(path: Path) -> Path | None:
    """The folder of the sweep that `path` belongs to; None if it belongs to none, or is directly in the folder."""
    below = ""
    for entry in (path, *path.parents[:FOLDERS_OF_A_SWEEP]):
        sweep = entry.parent
        if entry.name == "packs" and PACK_NAME.fullmatch(below):
            return sweep
        if entry.name in SWEEP_FOLDERS and any((sweep / name).exists() for name in ("sweep.yaml", "search.yaml")):
            return sweep
        below = entry.name
    return None


def open_log(path: Path) -> IO[bytes]:
    """The file at `path`, opened for appending and created if it does not exist; no link is followed.

    Raises:
        RecordError: if it cannot be opened.
    """
    return os.fdopen(open_file(path, os.O_WRONLY | os.O_APPEND, 0o644), "ab", buffering=0)


def open_file(path: Path, flags: int, mode: int = 0o666) -> int:
    """The descriptor of the file at `path`, created with `mode` if it does not exist; no link is followed.

    Raises:
        RecordError: if it cannot be opened.
    """
    refuse_links(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except OSError as error:
        reason = "is a link; remove it" if path.is_symlink() else f"cannot be opened: {error.strerror}"
        raise RecordError(f"{path}: {reason}") from error


class NotPrivateError(OSError):
    """`path`, a file or its folder, could be written by somebody else than this process's user.

    Attributes:
        path: the file or the folder.
        owner: uid of its owner.
    """

    def __init__(self, path: Path, owner: int):
        super().__init__(f"{path}: others may write to it")
        self.path, self.owner = path, owner


@contextmanager
def open_private(path: Path) -> Iterator[IO[bytes]]:
    """The file at `path`, opened for reading, whose content nobody but this process's user can have put there.

    The file and its folder are opened, and the open ones are checked, so that it makes no difference if somebody moves
    or replaces them or a folder above them meanwhile.

    Raises:
        NotPrivateError: if one of them belongs to another user, or if its group or others may write to it.
        OSError: if one cannot be opened, or the file is a link.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with open(descriptor, "rb") as file:  # noqa: PTH123, a descriptor
            for entry, status in ((path.parent, os.fstat(folder)), (path, os.fstat(descriptor))):
                if status.st_uid != os.geteuid() or status.st_mode & WRITABLE_BY_OTHERS:
                    raise NotPrivateError(entry, status.st_uid)
            yield file
    finally:
        os.close(folder)


def set_aside(path: Path) -> None:
    """Rename a damaged file or folder, so that nobody reads it and nothing is lost."""
    path.rename(path.with_name(f"{path.name}.{uuid.uuid4().hex[:4]}.damaged"))
