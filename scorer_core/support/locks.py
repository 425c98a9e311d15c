"""Locks between processes: an flock on a file. It ends with its process, however that ends; no lock is left behind.

`locked` waits for its turn, `try_lock` does not wait, `is_locked` only looks, and `Lock` waits for a limited time.
The content of the file is never changed, and a link is never followed.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scorer_core.support.errors import MovedError, RecordError
from scorer_core.support.files import open_file

PAUSES = 0.001, 0.05  # seconds between two tries: the first, and the longest


class Lock:
    """The lock on the file at `path`, which is created if it does not exist."""

    def __init__(self, path: Path):
        self.path = path
        self._file: int | None = None

    def acquire(self, patience: float | None = None) -> bool:
        """Take the lock; False if another process still holds it after `patience` seconds (None: wait forever).

        Raises:
            RecordError: if the file cannot be opened, or cannot be locked at all.
        """
        file = open_file(self.path, os.O_RDWR)
        try:
            taken = _wait(file, patience)
        except OSError as error:  # a file system without locks
            os.close(file)
            raise RecordError(f"{self.path}: cannot be locked: {error.strerror}") from error
        if taken:
            self._file = file
        else:
            os.close(file)
        return taken

    def check_place(self) -> None:
        """Make sure that what the holder of the lock writes beside it goes into the folder that it locked.

        Raises:
            MovedError: if the file, or a folder above it, was renamed, moved or removed since.
            RecordError: if the file system does not tell.
        """
        assert self._file is not None, "the lock is not held"
        try:
            moved = not os.path.samestat(os.fstat(self._file), self.path.lstat())
        except (FileNotFoundError, NotADirectoryError):
            moved = True
        except OSError as error:
            raise RecordError(f"{self.path}: cannot be read: {error.strerror}") from error
        if moved:
            raise MovedError(
                f"{self.path.parent}: this folder, or the lock in it, was moved or removed while a job used it; what "
                "was saved stays in the moved folder"
            )

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """For writing beside the lock: its file must be in its place before, and if the write fails, also afterwards.

        Raises:
            MovedError: if it is not (`check_place`), whatever the failed write reported.
            RecordError: if the write fails for another reason.
        """
        self.check_place()
        try:
            yield
        except RecordError:
            self.check_place()
            raise

    def release(self) -> None:
        """Let go of the lock; nothing happens if it is not held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextmanager
def locked(path: Path) -> Iterator[Lock]:
    """Hold the lock on `path`; wait until no other process holds it.

    Raises:
        RecordError: if the file cannot be opened or locked.
    """
    lock = Lock(path)
    lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def try_lock(path: Path) -> Iterator[Lock | None]:
    """The lock on `path` while this process holds it; None, at once, if another one holds it.

    Raises:
        RecordError: if the file cannot be opened or locked.
    """
    lock = Lock(path)
    taken = lock.acquire(patience=0)
    try:
        yield lock if taken else None
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Does a process hold the lock on `path`? The file is not created; without it the answer is no.

    To look is to hold the lock for a moment: a process that must get it waits (`locked`) instead of trying once.

    Raises:
        RecordError: if the file cannot be opened or locked.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RecordError(f"{path}: cannot be opened: {error.strerror}") from error
    try:
        return not _wait(file, patience=0)
    except OSError as error:
        raise RecordError(f"{path}: cannot be locked: {error.strerror}") from error
    finally:
        os.close(file)


def _wait(file: int, patience: float | None) -> bool:
    """Lock the open `file`; False if that takes more than `patience` seconds (None: wait forever)."""
    if patience is None:
        fcntl.flock(file, fcntl.LOCK_EX)
        return True
    end, pause = time.monotonic() + patience, PAUSES[0]
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
        time.sleep(pause)
        pause = min(2 * pause, PAUSES[1])
