"""When a comparison earns a verdict: only at sizes whose rate of false claims was measured and is small.

The rates are those of `coverage.json`, which `python -m tools.interval_coverage` writes together with the tables in
docs/statistics.md.
"""

import json
from functools import cache
from pathlib import Path

RATES = Path(__file__).parent / "coverage.json"
MOST_FALSE_CLAIMS = 0.08  # above this rate a comparison is a hint only


@cache
def measured() -> dict[tuple[int, int], float]:
    """(tasks, seeds) -> the rate of families with a false claim, the highest over all simulated kinds of scores."""
    found: dict[tuple[int, int], float] = {}
    for row in json.loads(RATES.read_text(encoding="utf-8"))["rows"]:
        size = row["tasks"], row["seeds"]
        found[size] = max(found.get(size, 0.0), row["false_one"], row["false_family"])
    return found


def false_claims(tasks: int, seeds: int) -> float | None:
    """The rate at this number of tasks and of seeds per task; None for fewer seeds than were simulated.

    Between simulated sizes: of the seeds the nearest smaller number, of the tasks the worse of both neighbours. More
    tasks than were simulated count as the most that were.
    """
    rates = measured()
    enough = [n for _, n in rates if n <= seeds]
    if not enough:
        return None
    every = [m for m, _ in rates]
    neighbours = {max(m for m in every if m <= tasks), min((m for m in every if m >= tasks), default=max(every))}
    return max(rates[m, max(enough)] for m in neighbours)
