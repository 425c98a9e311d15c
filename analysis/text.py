"""Numbers and lists as a reader sees them: estimates with their intervals, steps, lists that are cut off."""

from collections.abc import Sequence

import numpy as np

from analysis.curves import TimeToThreshold
from analysis.statistics import Estimate

MOST_NAMES = 6


def format_estimate(found: Estimate, absolute: bool = False) -> str:
    """`1.23 [1.10, 1.31]`: three significant digits of the largest of these numbers, at most four decimals.

    There are no brackets where there is no interval. With `absolute` a negative estimate is shown as a positive one.
    """
    value, low, high = (float(number) for number in found)
    if absolute and value < 0:
        value, low, high = -value, -high, -low
    size = max(abs(number) for number in (value, low, high) if np.isfinite(number)) if np.isfinite(value) else 1.0
    digits = max(0, 2 - int(np.floor(np.log10(size)))) if size > 0 else 2
    digits = min(digits, 4)
    if np.isnan(low):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def format_time(time: TimeToThreshold) -> str:
    """`1.2M [1.0M, 1.5M]` environment steps; `never` for an infinite number."""
    value, low, high = (_steps(float(number)) for number in time.steps)
    return value if np.isnan(time.steps.low) else f"{value} [{low}, {high}]"


def _steps(number: float) -> str:
    if not np.isfinite(number):
        return "never"
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"


def listed(names: Sequence[str], most: int = MOST_NAMES, separator: str = ", ") -> str:
    """The first `most` names and how many more there are: `a, b and 3 more`."""
    return separator.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
