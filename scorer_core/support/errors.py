"""Errors that are one line for the user: of records, and of environments and functions that are not ours. No torch."""

from collections.abc import Iterator
from contextlib import contextmanager

MAX_CHARACTERS = 1000


class RecordError(Exception):
    """A record that cannot be read or written; the message names the file."""


class DamagedError(RecordError):
    """A file that is missing, or is not what was written."""


class MovedError(RecordError):
    """A folder is not where it was when it was locked; nothing is written to its old path."""


class UserCodeError(RecordError):
    """An environment or a registered function raises an exception; the message names both in one line."""


def reason(error: BaseException) -> str:
    """`error` in one line: its type and message, without control characters; of a `RecordError` only the message."""
    try:
        text = " ".join(str(error).split())
    except BaseException:
        text = "(its message cannot be read: __str__ raises an exception)"
    text = "".join(character if character.isprintable() else "?" for character in text)
    if len(text) > MAX_CHARACTERS:
        text = f"{text[:MAX_CHARACTERS]}..."
    if isinstance(error, RecordError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Whatever the code in the block raises, sys.exit() included, becomes one line about `what`.

    Raises:
        UserCodeError: "`what`: type: message". A `RecordError` and an interrupt stay what they are.
    """
    try:
        yield
    except (RecordError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UserCodeError(f"{what}: {reason(error)}") from error
