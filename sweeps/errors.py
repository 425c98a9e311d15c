"""The error of a definition that cannot be run, and how its one line is written."""

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

MAX_MESSAGE = 1_000  # characters


class DefinitionError(Exception):
    """A definition that cannot be run; the message is one line that names the file and the field."""

    def __init__(self, message: str):
        line = shortened(" ".join(message.splitlines()), MAX_MESSAGE)
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line))


def shortened(text: str, most: int) -> str:
    """`text`, without its middle if it has more than `most` characters."""
    return text if len(text) <= most else f"{text[: most * 2 // 3]} ... {text[-most // 3 :]}"


def one_line(error: ValidationError) -> str:
    """One fault that pydantic found, in one line: the field, then what is wrong with it.

    An unknown key comes first: it is often the misspelled name of a field that is then missing.
    """
    first = reported_fault(error)
    field = ".".join(shortened(str(place), 100) for place in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key"
    elif field and first["type"] != "value_error" and first["type"] != "missing":
        message += f", not {value_in_words(first['input'])}"
    return f"{field}: {message}" if field else message


def reported_fault(error: ValidationError) -> ErrorDetails:
    """The first unknown key; if there is none, the first fault."""
    faults = error.errors(include_url=False)
    return next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])


def value_in_words(value: Any) -> str:
    """A value as Python writes it, in at most about 100 characters."""
    try:
        return shortened(repr(value), 100)
    except ValueError:  # Python does not print whole numbers of thousands of digits
        return "a number of thousands of digits"
