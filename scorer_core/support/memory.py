"""How the operating system gives this process its memory. Without these, only time is lost."""

import ctypes
from contextlib import suppress
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3) in glibc
LARGE_PAGES = 14  # MADV_HUGEPAGE of madvise(2) in Linux
PAGE = 4096


def keep_freed_memory() -> None:
    """Make malloc keep the memory that a step frees; otherwise the next step has page faults for the same memory."""
    with suppress(AttributeError, OSError):  # another libc may lack them
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(TRIM_THRESHOLD, 1 << 30)


def use_large_pages(tensor: Any) -> None:
    """Ask for large pages behind a new tensor: reads of single rows anywhere in it then find their page sooner."""
    if tensor.device.type != "cpu":
        return
    start = -(-tensor.data_ptr() // PAGE) * PAGE
    length = (tensor.data_ptr() + tensor.nbytes - start) // PAGE * PAGE
    if length > 0:
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), LARGE_PAGES)
