"""How often the intervals hold, on experiments whose truth is known: `python -m analysis.coverage` renews the table.

Scores are lognormal, five tasks of unequal level and spread, as skewed as returns are; the truth is the IQM of a
million runs a task. A family is a baseline and five ablations that all do the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from analysis.comparisons import compare
from analysis.statistics import Bootstrap, estimate
from scorer_core.records import replace_file

PAGE = Path(__file__).parent.parent / "docs" / "statistics.md"
BEGIN, END = "<!-- coverage: begin -->\n", "<!-- coverage: end -->\n"
SEEDS = (3, 5, 10, 30)
LEVELS, SPREADS = np.array([1.0, 1.2, 0.8, 1.5, 0.6]), np.array([0.3, 0.5, 0.7, 0.9, 1.1])
ABLATIONS = 5


@dataclass(frozen=True)
class Coverage:
    """Shares of the experiments simulated with so many seeds."""

    seeds: int
    experiments: int
    plain: float  # the percentile interval holds the true IQM
    corrected: float  # the interval widened for few seeds does
    false_alone: float  # of a family of null ablations one is called different, each by an interval of its own
    false_family: float  # the same by max-t intervals


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Scores, (*shape, tasks)."""
    return LEVELS * rng.lognormal(0, SPREADS, (*shape, len(LEVELS)))


@cache
def true_iqm() -> float:
    scores = np.sort(draw(np.random.default_rng(2**32), 1_000_000).ravel())
    quarter = len(scores) // 4
    return float(scores[quarter:-quarter].mean())


def measure(seeds: int, experiments: int, replications: int = 2000) -> Coverage:
    """Simulate so many single variants, and as many families of null ablations."""
    rng = np.random.default_rng([seeds, experiments])
    held = {False: 0, True: 0}
    alone = family = 0
    for number in range(experiments):
        scores = draw(rng, seeds)
        for corrected in held:
            found = estimate(scores, Bootstrap(replications, number, few_seeds_correction=corrected))
            held[corrected] += bool(found.low <= true_iqm() <= found.high)
        variants = {str(i): draw(rng, seeds) for i in range(ABLATIONS + 1)}
        baselines = {name: None if name == "0" else "0" for name in variants}
        comparisons = compare(variants, baselines, Bootstrap(replications, number))
        alone += any(c.difference.low > 0 or c.difference.high < 0 for c in comparisons)
        family += any(c.verdict != "not separated" for c in comparisons)
    counts = (held[False], held[True], alone, family)
    return Coverage(seeds, experiments, *(count / experiments for count in counts))


def table(rows: Sequence[Coverage]) -> str:
    """As Markdown, with the standard error of a share near 95 %."""
    head = "seeds | 95 % percentile interval holds | with the few-seeds correction | "
    head += f"a false claim among {ABLATIONS}, each alone | a false claim, max-t"
    lines = [f"| {head} |", "|" + " ---: |" * 5]
    for row in rows:
        shares = (row.plain, row.corrected, row.false_alone, row.false_family)
        lines.append(f"| {row.seeds} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |")
    error = 100 * np.sqrt(0.95 * 0.05 / rows[0].experiments)
    return "\n".join(
        [*lines, "", f"{rows[0].experiments:,} simulated experiments a row; standard error {error:.1f} %.\n"]
    )


def renew(page: Path = PAGE, experiments: int = 1000) -> str:
    """Measure, and put the table into `page` in place of the one that stands there."""
    text = table([measure(seeds, experiments) for seeds in SEEDS])
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    replace_file(page, f"{before}{BEGIN}{text}{END}{after}".encode())
    return text


if __name__ == "__main__":
    print(renew())
