"""Measure the coverage of intervals and the rate of false claims, on simulated experiments with known true values.

`python -m tools.interval_coverage` writes analysis/coverage.json and the tables in docs/statistics.md. The rule that
decides whether a comparison makes a claim reads the same file (analysis/false_claims.py).

An experiment has a baseline and five variants with the same true IQM, so every claim is false.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from analysis.comparisons import simultaneous_half_widths
from analysis.false_claims import MOST_FALSE_CLAIMS, RATES
from analysis.statistics import LEVEL, Bootstrap, Estimate, few_seeds_widening, iqm_of_each, ones
from scorer_core.support.files import replace_file
from scorer_core.support.text import count
from tools.page import DOCS, replace_generated

PAGE = DOCS / "statistics.md"
PART = "coverage"  # of the page
TASKS, SEEDS = (1, 2, 5), (3, 5, 10, 30)
VARIANTS = 5
EXPERIMENTS = {1: 4000, 2: 2000, 5: 2000}  # by number of tasks
REPS = 1000
AT_ONCE = 100  # experiments that share the draws of the bootstrap

Shape = tuple[int, int, int, int]  # experiments, variants, seeds, tasks


def skewed(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Lognormal; tasks differ in level and spread."""
    levels, spreads = np.array([1.0, 1.2, 0.8, 1.5, 0.6]), np.array([0.7, 0.3, 1.1, 0.5, 0.9])
    return levels[: shape[-1]] * rng.lognormal(0, spreads[: shape[-1]], shape)


def paired(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Normal; runs of different variants with the same seed have a correlation of 0.6."""
    experiments, _, seeds, tasks = shape
    of_seed = rng.normal(size=(experiments, 1, seeds, tasks))
    return np.sqrt(0.6) * of_seed + np.sqrt(0.4) * rng.normal(size=shape)


def bimodal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """A run fails (near 0) or learns (near 1); on the first task half of the runs fail."""
    failing = np.array([0.5, 0.3, 0.7, 0.2, 0.4])[: shape[-1]]
    return np.where(rng.random(shape) < failing, 0.02 * rng.normal(size=shape), 1 + 0.1 * rng.normal(size=shape))


def capped(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Half of the runs reach the highest possible score, so that scores are equal."""
    return np.minimum(1.0, 1 + 0.3 * rng.normal(size=shape))


def unequal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Normal; the baseline has very little spread, two variants have a tenth of the spread of the other three."""
    spreads = np.array([0.05, 1, 1, 1, 0.1, 0.1])[: shape[1], None, None]
    return spreads * rng.normal(size=shape)


KINDS: dict[str, Callable[[np.random.Generator, Shape], np.ndarray]] = {
    "skewed": skewed, "paired": paired, "bimodal": bimodal, "capped": capped, "unequal": unequal,
}  # fmt: skip


@dataclass(frozen=True)
class IntervalCoverage:
    """Rates over all experiments simulated with this kind of scores, this many tasks and seeds per task."""

    kind: str
    tasks: int
    seeds: int
    experiments: int
    plain: float  # the percentile interval of an IQM covers the true IQM
    corrected: float  # the interval widened for few seeds covers it
    false_alone: float  # a false claim among five comparisons whose intervals are not adjusted
    false_one: float  # a false claim in one comparison
    false_family: float  # a false claim among five comparisons with simultaneous intervals


@cache
def true_iqm(kind: str, tasks: int) -> float:
    """The IQM of this kind of scores, from 500,000 runs per task."""
    scores = np.sort(KINDS[kind](np.random.default_rng(2**32), (1, 1, 500_000, tasks)).ravel())
    quarter = len(scores) // 4
    return float(scores[quarter:-quarter].mean())


def measure(kind: str, tasks: int, seeds: int, experiments: int) -> IntervalCoverage:
    """Simulate this many experiments of one kind and size."""
    rng = np.random.default_rng([list(KINDS).index(kind), tasks, seeds])
    rates = []
    for start in range(0, experiments, AT_ONCE):
        scores = KINDS[kind](rng, (min(AT_ONCE, experiments - start), VARIANTS + 1, seeds, tasks))
        rates += [*_rates(scores, start, true_iqm(kind, tasks))]
    return IntervalCoverage(kind, tasks, seeds, experiments, *np.mean(rates, axis=0).tolist())


def _rates(scores: np.ndarray, seed: int, truth: float) -> Iterator[tuple[float, ...]]:
    """The last five fields of IntervalCoverage, for each experiment of `scores`."""
    experiments, variants, seeds, tasks = scores.shape
    available = np.ones((seeds, tasks), bool)
    columns = scores.reshape(experiments * variants, seeds * tasks).T
    plain = Bootstrap(REPS, seed, few_seeds_correction=False)
    corrected = Bootstrap(REPS, seed)
    values, replicates = (
        iqm_of_each(columns, counts.reshape(seeds * tasks, -1)).reshape(experiments, variants, -1)
        for counts in (ones(available), plain.counts(available))
    )
    covers = [
        (found.low <= truth) & (truth <= found.high)
        for found in (method.interval(values[..., 0], replicates, available) for method in (plain, corrected))
    ]
    values, replicates = values[:, 1:, 0] - values[:, :1, 0], replicates[:, 1:] - replicates[:, :1]
    alone = _claims(corrected.interval(values, replicates, available))
    one, family = (
        _claims(_family(values[:, :size], replicates[:, :size], few_seeds_widening(available)))
        for size in (1, VARIANTS)
    )
    for rates in zip(*covers, alone, one, family, strict=True):
        yield (*(float(covered.mean()) for covered in rates[:2]), *(float(claims.any()) for claims in rates[2:]))


def _family(values: np.ndarray, replicates: np.ndarray, widening: float) -> Estimate:
    half = widening * simultaneous_half_widths(values, replicates, LEVEL)
    return Estimate(values, values - half, values + half)


def _claims(differences: Estimate) -> np.ndarray:
    return differences.above(0) | differences.below(0)


def tables(rows: Sequence[IntervalCoverage]) -> str:
    """The Markdown tables: the worst kind of scores at each size, then each kind."""
    sizes = list(dict.fromkeys((row.tasks, row.seeds) for row in rows))
    of_size = {size: [row for row in rows if (row.tasks, row.seeds) == size] for size in sizes}
    worst = {
        size: [
            min(row.plain for row in found),
            min(row.corrected for row in found),
            *(max(getattr(row, rate) for row in found) for rate in ("false_alone", "false_one", "false_family")),
        ]
        for size, found in of_size.items()
    }
    claim = {size: "too few seeds" if max(rates[3:]) > MOST_FALSE_CLAIMS else "made" for size, rates in worst.items()}
    titles = ("coverage, percentile", "coverage, corrected", f"{VARIANTS} comparisons, not adjusted")
    header = [*titles, "1 comparison", f"{VARIANTS} comparisons, max-t", "claim"]
    simulated = {row.tasks: row.experiments for row in rows}
    numbers = ", ".join(f"{number:,} with {count(tasks, 'task')}" for tasks, number in simulated.items())
    error = 100 * np.sqrt(0.95 * 0.05 / min(simulated.values()))
    return "\n\n".join(
        [
            "The worst of all kinds of scores: the lowest coverage, and the highest rate of at least one false claim:",
            _table(header, {size: [*map(_percent, worst[size]), claim[size]] for size in sizes}),
            "Coverage of the corrected interval, by kind of scores:",
            _table(list(KINDS), {size: [_percent(row.corrected) for row in of_size[size]] for size in sizes}),
            f"Rate of at least one false claim among {VARIANTS} comparisons (max-t), by kind of scores:",
            _table(list(KINDS), {size: [_percent(row.false_family) for row in of_size[size]] for size in sizes}),
            f"Simulated experiments per rate: {numbers}. The standard error of a rate of 5 % is at most "
            f"{error:.1f} %.\n",
        ]
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _table(header: Sequence[str], cells: dict[tuple[int, int], list[str]]) -> str:
    lines = [f"| tasks | seeds | {' | '.join(header)} |", "|" + " ---: |" * (len(header) + 2)]
    lines += [f"| {tasks} | {seeds} | {' | '.join(found)} |" for (tasks, seeds), found in cells.items()]
    return "\n".join(lines)


def read(path: Path = RATES) -> list[IntervalCoverage]:
    """All rates in `path`."""
    return [IntervalCoverage(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]


def write(page: Path = PAGE, rates: Path = RATES, experiments: Mapping[int, int] = EXPERIMENTS) -> str:
    """Simulate every size, write `rates` and replace the tables in `page`; returns the tables."""
    rows = [measure(kind, tasks, seeds, experiments[tasks]) for tasks in TASKS for seeds in SEEDS for kind in KINDS]
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
    replace_file(rates, f'{{"rows": [\n{lines}\n]}}\n'.encode())
    text = tables(rows)
    replace_generated(page, PART, text)
    return text


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(write())
