"""stdout and stderr that never end a command: text that cannot be written is lost, and the command continues."""

import errno
import io
import os
import select
import sys
from typing import Any, TextIO


class _Output(io.FileIO):
    """A file descriptor; after a write that fails (full disk, closed pipe), it is /dev/null."""

    def __init__(self, descriptor: int):
        super().__init__(descriptor, "w", closefd=False)
        self.error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            while (written := super().write(data)) is None:  # another process made the terminal non-blocking
                select.select([], [self], [])
            return written
        except OSError as error:
            self.error = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())  # also for child processes
            os.close(null)
            return memoryview(data).nbytes


def protect() -> None:
    """Replace sys.stdout and sys.stderr, unless somebody else replaced them before.

    Characters that the terminal's encoding lacks become "?". Closed descriptors (`>&-`) become /dev/null: otherwise the
    next file that is opened would get their number, and output would be written into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest free number, this one
    if sys.stdout is sys.__stdout__:
        sys.stdout = _protected(1, sys.stdout, "replace")
    if sys.stderr is sys.__stderr__:
        sys.stderr = _protected(2, sys.stderr, "backslashreplace")


def _protected(descriptor: int, stream: TextIO | None, errors: str) -> TextIO:
    """`stream` is None if its descriptor was closed when Python started."""
    if stream:
        stream.flush()
    raw = _Output(descriptor)
    encoding = stream.encoding if stream else "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=raw.isatty() or descriptor == 2)


def lost_output() -> str | None:
    """Why not all of stdout was written; None if all was, or if its reader did not want more (`| head -1`)."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    error = raw.error if isinstance(raw, _Output) else None
    return None if error is None or error.errno == errno.EPIPE else error.strerror
