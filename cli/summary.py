"""Which rows of a long table the screen shows: the first, the last, and between them what is unfinished."""

from collections.abc import Collection, Hashable, Sequence
from typing import TypeVar

from scorer_core.support.text import count

SHOWN = 50  # a table with more entries is summarised
AT_EACH_END = 5
UNFINISHED = 20

Entry = TypeVar("Entry", bound=Hashable)


def shown_of(entries: Sequence[Entry], unfinished: Collection[Entry] = (), everything: bool = False) -> list[Entry]:
    """The entries to show, in their order: of many, those at both ends and the first of `unfinished`."""
    if everything or len(entries) <= SHOWN:
        return list(entries)
    chosen = {*entries[:AT_EACH_END], *entries[-AT_EACH_END:]}
    chosen.update([entry for entry in unfinished if entry not in chosen][:UNFINISHED])
    return [entry for entry in entries if entry in chosen]


def more(number: int, noun: str, what: str, command: str) -> str:
    """The line below a table that lacks `number` entries; `command --all` shows them, and `what` is known of them."""
    return f"and {count(number, f'more {noun}')}{what}; `{command} --all` shows every {noun}."
