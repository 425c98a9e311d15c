"""Types of the names and texts in a definition: what can be a folder's name, and what can be shown in a figure."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

from sweeps.errors import shortened

LONGEST_NAME = 80  # characters; a longer label does not fit a figure


def is_folder_name(name: str) -> str:
    """`name` itself, if a folder can have it.

    Raises:
        ValueError: if it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"{name!a} cannot be a folder's name; use letters, digits, '.', '_', '-', and start with a letter or digit"
        )
    return _is_short(name)


def is_name(name: str) -> str:
    """`name` itself, if a figure or a table can show it.

    Raises:
        ValueError: if it is empty, too long, or would not be shown as it is written.
    """
    if name != name.strip() or not name:
        raise ValueError(f"the name {name!r} is empty, or starts or ends with a space; rename it")
    return _is_visible(_is_short(name))


def is_text(text: str) -> str:
    """`text` itself, of one line or several.

    Raises:
        ValueError: if it would not be shown as it is written.
    """
    _is_visible(" ".join(text.split()))
    return text


def _is_short(name: str) -> str:
    if len(name) > LONGEST_NAME:
        raise ValueError(f"a name of {len(name):,} characters is too long; use at most {LONGEST_NAME}")
    return name


def _is_visible(text: str) -> str:
    """`text` itself, if it has no characters that hide, reorder or control others."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            raise ValueError(f"{shortened(ascii(text), 80)} has a control or invisible character; remove it")
    return text


FolderName = Annotated[str, AfterValidator(is_folder_name)]
Name = Annotated[str, AfterValidator(is_name)]
Text = Annotated[str, Field(min_length=1), AfterValidator(is_text)]
