"""From the folder of a sweep to scores and curves: every planned run is accounted for, whatever state it is in.

Nothing here decides what a run is worth to a comparison: a run that is missing, unfinished or unreadable keeps its row,
its reason and a NaN.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from analysis.choices import Score
from analysis.traces import Status, Trace, read_imported, read_packs
from scorer_core.config import RunConfig
from scorer_core.records import METRICS
from sweeps.definition import DefinitionError, Sweep, Variant, load_submitted

FINAL_WINDOW = 0.1  # the last share of training that a final score averages

SCORE_MEANINGS: dict[Score, str] = {
    "final": "mean return over the last 10 % of training",
    "best": "highest logged return",
    "auc": "mean return over all of training (area under the curve / its length)",
}


class ReportError(Exception):
    """A sweep that cannot be reported on at all; the message says why in one line."""


@dataclass(frozen=True)
class RunRow:
    """One cell of the grid: what is known of one run."""

    variant: str
    task: str
    seed: int
    run_id: str
    status: Status
    code: str  # commit, and a hash of what differed from it, of every attempt that trained it; "" if none did
    folder: Path | None  # of the pack that holds its metrics
    scores: dict[Score, float]  # NaN where it has none
    diverged_at: int | None = None  # the first step logged as diverged
    config: RunConfig | None = None  # None for a run from elsewhere
    verdicts: tuple[str, ...] = ()  # scorer_core.verdicts; none for a run that is not finished

    @property
    def scored(self) -> bool:
        return bool(np.isfinite(self.scores["final"]))


@dataclass(frozen=True)
class Results:
    """What came out of a sweep. Matrices are seeds x tasks, in the order of `seeds` and `tasks`, equal for variants."""

    folder: Path
    sweep: Sweep
    points: tuple[Variant, ...]  # variants in the order written
    runs: tuple[RunRow, ...]
    steps: np.ndarray  # the grid of environment steps that curves are on
    metrics: tuple[str, ...]  # what was read; scores are made of the first
    series: dict[tuple[str, str, int], np.ndarray] = field(repr=False)  # (variant, task, seed) -> metrics x steps
    problems: tuple[str, ...] = ()  # what could not be read

    @property
    def variants(self) -> list[str]:
        return [variant.name for variant in self.points]

    @property
    def baselines(self) -> list[str]:
        """The baseline's points: one, unless an axis matters to it."""
        family = self.sweep.baseline
        return [variant.name for variant in self.points if family is not None and variant.family == family]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(run.task for run in self.runs))

    @property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})

    @cached_property
    def _places(self) -> tuple[dict[int, int], dict[str, int]]:
        return {seed: i for i, seed in enumerate(self.seeds)}, {task: j for j, task in enumerate(self.tasks)}

    def scores(self, score: Score = "final") -> dict[str, np.ndarray]:
        """One matrix seeds x tasks a variant, NaN where there is no finished run."""
        seed_row, task_column = self._places
        matrices = {name: np.full((len(seed_row), len(task_column)), np.nan) for name in self.variants}
        for run in self.runs:
            matrices[run.variant][seed_row[run.seed], task_column[run.task]] = run.scores[score]
        return matrices

    def curves(self, metric: str = "") -> dict[str, np.ndarray]:
        """One array seeds x tasks x steps a variant, of the first metric unless named; NaN without a finished run."""
        row = self.metrics.index(metric) if metric else 0
        seed_row, task_column = self._places
        shape = (len(seed_row), len(task_column), len(self.steps))
        arrays = {name: np.full(shape, np.nan, np.float32) for name in self.variants}
        for (variant, task, seed), values in self.series.items():
            arrays[variant][seed_row[seed], task_column[task]] = values[row]
        return arrays

    def baseline_of(self, name: str) -> str | None:
        """The variant that `name` is compared with; None for the baseline itself, or in a sweep without."""
        variant = next(point for point in self.points if point.name == name)
        baseline = self.sweep.baseline_of(variant)
        return None if baseline is None or baseline == variant else baseline.name

    def verdicts(self) -> dict[str, Counter[str]]:
        """Of each variant with a finished run of ours: how many runs earned each verdict; `runs` counts them all."""
        found: dict[str, Counter[str]] = {}
        for run in self.runs:
            if run.config and run.status in ("done", "diverged"):
                found.setdefault(run.variant, Counter()).update(["runs", *run.verdicts])
        return found

    def count(self) -> Counter[Status]:
        return Counter(run.status for run in self.runs)


def load_results(folder: Path, metrics: Sequence[str] = ("return",), overrides: Sequence[str] = ()) -> Results:
    """Everything a sweep has left under `folder` (outputs/<sweep>: sweep.yaml and packs/), one row a planned run.

    `metrics` are columns of the records; scores are made of the first. `overrides` (KEY=VALUE) change the definition
    that is read: another baseline, fewer seeds.

    Raises:
        ReportError: if there is no readable definition, or no such metric. Unreadable records are not errors: they are
            told in `problems`.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise ReportError(f"{metric}: no such metric; there is {', '.join(METRICS)}")
    definition = folder / "sweep.yaml"
    if not definition.is_file():
        raise ReportError(f"{folder}: no sweep here (no sweep.yaml); was it ever planned or run?")
    try:
        sweep = load_submitted(folder, overrides)
    except DefinitionError as error:
        raise ReportError(str(error)) from error

    planned = {run.run_id: run.config for run in sweep.runs}
    problems: list[str] = []
    found = read_packs(folder, planned, metrics, problems)
    elsewhere = read_imported(folder, problems) if metrics[0] == "return" else {}
    ours = [trace.steps for trace in found.values() if trace.finished]
    grid = _common_steps(ours, [trace.steps for trace in elsewhere.values()], problems)

    cells = [(run.variant, run.config.task, run.config.seed, run.config, found.get(run.run_id)) for run in sweep.runs]
    cells += [(Variant(name), task, seed, None, trace) for (name, task, seed), trace in elsewhere.items()]
    rows, series = [], {}
    for variant, task, seed, config, trace in cells:
        row = _row(variant.name, task, seed, config, trace)
        rows.append(row)
        if trace and row.scored and np.isfinite(trace.values[0]).all():
            series[row.variant, task, seed] = _on(grid, trace, metrics)
    points = tuple(dict.fromkeys(cell[0] for cell in cells))
    return Results(folder, sweep, points, tuple(rows), grid, tuple(metrics), series, tuple(problems))


def _row(variant: str, task: str, seed: int, config: RunConfig | None, trace: Trace | None) -> RunRow:
    run_id = config.run_id if config else ""
    if trace is None:
        return RunRow(variant, task, seed, run_id, "missing", "", None, NO_SCORES, None, config)
    total_steps = config.total_steps if config else int(trace.steps[-1])
    scores = _scores(trace, total_steps)
    known = trace.status, trace.code, trace.folder, scores, trace.diverged_at, config, trace.verdicts
    return RunRow(variant, task, seed, run_id, *known)


NO_SCORES: dict[Score, float] = dict.fromkeys(SCORE_MEANINGS, float("nan"))


def _scores(trace: Trace, total_steps: int) -> dict[Score, float]:
    """NaN unless the run is finished; a diverged run counts with what it logged, it would flatter to leave it out."""
    if not trace.finished:
        return NO_SCORES
    values = trace.values[0]
    late = values[trace.steps > (1 - FINAL_WINDOW) * total_steps]
    span = trace.steps[-1] - trace.steps[0]
    return {
        "final": float(late.mean()) if late.size else float("nan"),
        "best": float(values.max()),
        "auc": float(np.trapezoid(values, trace.steps) / span) if span else float(values[0]),
    }


def _on(grid: np.ndarray, trace: Trace, metrics: Sequence[str]) -> np.ndarray:
    """Metrics x steps of the grid; NaN for metrics that a run from elsewhere does not have."""
    if np.array_equal(grid, trace.steps) and len(trace.values) == len(metrics):
        return trace.values
    values = np.full((len(metrics), len(grid)), np.nan)
    values[: len(trace.values)] = [np.interp(grid, trace.steps, row) for row in trace.values]
    return values


def _common_steps(ours: Sequence[np.ndarray], others: Sequence[np.ndarray], problems: list[str]) -> np.ndarray:
    """The steps every finished run logged; where runs differ, those of our sparsest within everybody's range."""
    every = [*ours, *others]
    if not every:
        return np.array([], np.int64)
    sparsest = min(ours or others, key=len)
    if all(np.array_equal(sparsest, steps) for steps in every):
        return sparsest
    first, last = max(steps[0] for steps in every), min(steps[-1] for steps in every)
    grid = sparsest[(first <= sparsest) & (sparsest <= last)]
    problems.append(
        f"runs logged at different steps, the last from {last:,} to {max(steps[-1] for steps in every):,}: curves are "
        f"interpolated linearly to {len(grid)} common steps from {first:,}; final scores are each run's own"
    )
    return grid
