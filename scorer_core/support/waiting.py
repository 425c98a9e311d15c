"""Report what a command waits for (another program, a lock) if it takes longer than a few seconds."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_SECONDS = 4.0  # until the first line; each later line comes after twice the time

hook: Callable[[str], None] | None = None  # called with one line; the command line sets it


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """While this lasts, `hook` is called now and then with a line that names `what`."""
    over = threading.Event()
    if hook:
        threading.Thread(target=_report, args=(hook, what, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _report(report: Callable[[str], None], what: str, over: threading.Event) -> None:
    started = time.monotonic()
    pause = FIRST_SECONDS
    while not over.wait(pause):
        pause = time.monotonic() - started
        report(f"waiting for {what} ({pause:.0f} s) ...")
