"""When a comparison makes a claim: only at sizes whose simulated rate of false claims is small.

The rates are in `coverage.json`. `python -m tools.interval_coverage` writes it and the tables in docs/statistics.md.
"""

import json
from functools import cache
from pathlib import Path

RATES = Path(__file__).parent / "coverage.json"
MOST_FALSE_CLAIMS = 0.08  # above this rate a comparison makes no claim


@cache
def measured() -> dict[tuple[int, int], float]:
    """(tasks, seeds) -> the rate of experiments with a false claim: the highest over all simulated kinds of scores."""
    found: dict[tuple[int, int], float] = {}
    for row in json.loads(RATES.read_text(encoding="utf-8"))["rows"]:
        size = row["tasks"], row["seeds"]
        found[size] = max(found.get(size, 0.0), row["false_one"], row["false_family"])
    return found


def false_claims(tasks: int, seeds: int) -> float | None:
    """The rate with this number of tasks and of seeds per task; None for fewer seeds than any simulation had.

    If a number of seeds was not simulated, the next smaller one counts. If a number of tasks was not simulated, the
    higher rate of its two neighbours counts; above the largest number of tasks, the rate of the largest.
    """
    rates = measured()
    enough = [n for _, n in rates if n <= seeds]
    if not enough:
        return None
    every = [m for m, _ in rates]
    neighbours = {max(m for m in every if m <= tasks), min((m for m in every if m >= tasks), default=max(every))}
    return max(rates[m, max(enough)] for m in neighbours)
