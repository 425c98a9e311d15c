"""Numbers and durations in the words that a user reads."""

from collections.abc import Iterable


def count(number: int, noun: str) -> str:
    """`1 pack`, `2 packs`, `1,000 packs`."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def duration(seconds: float) -> str:
    """`seconds` for a reader: in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def folded(words: Iterable[object], most: int = 4) -> str:
    """`a, b, c, d and 3 more`: at most so many words, each once."""
    known = list(dict.fromkeys(map(str, words)))
    return ", ".join(known[:most]) + (f" and {len(known) - most:,} more" if len(known) > most else "")
