"""From the folder of a sweep to scores and curves: every planned run is accounted for, whatever state it is in.

Nothing here decides what a run is worth to a comparison: a run that is missing, unfinished or unreadable keeps its row,
its reason and a NaN.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from analysis.choices import Score
from analysis.run_metrics import RunMetrics, Status, read_imported, read_packs, version_notes
from scorer_core.config import RunConfig
from scorer_core.records import METRICS, PackFolder
from scorer_core.scores import auc, best, final
from sweeps.definition import Sweep
from sweeps.errors import DefinitionError
from sweeps.expansion import Variant
from sweeps.loading import load_submitted

MOST_IMPORTED_STEPS = 200  # of an imported variant's steps on a task, so many are drawn

SCORE_MEANINGS: dict[Score, str] = {
    "final": "mean return over the last 10 % of training",
    "best": "highest logged return",
    "auc": "mean return over the part of training that has returns (area under the curve / its length)",
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
class Series:
    """The rows of one finished run."""

    steps: np.ndarray
    values: np.ndarray  # metrics x steps; an imported run has the first metric only

    @property
    def valid(self) -> np.ndarray:
        """Bool, by row: does the first metric have a value? A run has no return before its first episode ends."""
        return np.isfinite(self.values[0])


@dataclass(frozen=True)
class Results:
    """What came out of a sweep. Matrices are seeds x tasks, in the order of `seeds` and `tasks`, equal for variants."""

    folder: Path
    sweep: Sweep
    points: tuple[Variant, ...]  # variants in the order written
    runs: tuple[RunRow, ...]
    steps: np.ndarray  # the environment steps that curves are on: the union of those in `logged`
    metrics: tuple[str, ...]  # what was read; scores are made of the first
    # (variant, task, seed) -> what a finished run logged; only runs with a value of the first metric
    series: dict[tuple[str, str, int], Series] = field(repr=False)
    # (variant, task) -> bool, by step: where these runs logged a row. Their curve is drawn at these steps only, so that
    # no other variant can change it.
    logged: dict[tuple[str, str], np.ndarray] = field(repr=False)
    problems: tuple[str, ...] = ()  # what could not be read
    version_notes: tuple[str, ...] = ()  # upgrades, different versions, unknown commits

    @property
    def variants(self) -> list[str]:
        return [variant.name for variant in self.points]

    @property
    def baselines(self) -> list[str]:
        """The baseline's points: one, unless an axis matters to it."""
        return [variant.name for variant in self.sweep.baseline_points]

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
        """One array seeds x tasks x steps per variant, of the first metric unless named.

        A run is interpolated linearly between its own values. It is NaN before its first and after its last value.
        """
        row = self.metrics.index(metric) if metric else 0
        seed_row, task_column = self._places
        shape = (len(seed_row), len(task_column), len(self.steps))
        arrays = {name: np.full(shape, np.nan, np.float32) for name in self.variants}
        for (variant, task, seed), series in self.series.items():
            if row < len(series.values):
                arrays[variant][seed_row[seed], task_column[task]] = _on(self.steps, series.steps, series.values[row])
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
    sweep = read_sweep(folder, overrides)
    planned = {run.run_id: run.config for run in sweep.runs}
    problems: list[str] = []
    found = read_packs(folder, planned, metrics, problems)
    elsewhere = _beside(sweep, read_imported(folder, problems), problems) if metrics[0] == "return" else {}
    cells = [(run.variant, run.config.task, run.config.seed, run.config, found.get(run.run_id)) for run in sweep.runs]
    cells += [(Variant(name), task, seed, None, trace) for (name, task, seed), trace in elsewhere.items()]
    rows: list[RunRow] = []
    series: dict[tuple[str, str, int], Series] = {}
    for variant, task, seed, config, trace in cells:
        rows.append(_row(variant.name, task, seed, config, trace))
        if trace and trace.finished:
            one = Series(trace.steps, trace.values)
            if one.valid.any():
                series[variant.name, task, seed] = one
    points = tuple(dict.fromkeys(cell[0] for cell in cells))
    imported = {(name, task) for name, task, _ in elsewhere}
    grid, logged = _grid(series, imported)
    packs = [PackFolder(path) for path in sorted({trace.folder for trace in found.values()})]
    notes = tuple(version_notes(packs))
    return Results(folder, sweep, points, tuple(rows), grid, tuple(metrics), series, logged, tuple(problems), notes)


def _beside(
    sweep: Sweep, imported: Mapping[tuple[str, str, int], RunMetrics], problems: list[str]
) -> dict[tuple[str, str, int], RunMetrics]:
    """The imported runs that can stand beside the sweep's own; the definition may have changed after the import."""
    own, kept = {run.variant.name for run in sweep.runs}, {}
    left_out: dict[str, None] = {}
    for (name, task, seed), trace in imported.items():
        if name in own:
            reason = f"the sweep has a variant {name} too; its imported runs are left out: rename one of the two"
        elif task not in sweep.tasks:
            reason = f"{task} is no task of the sweep; its imported runs are left out"
        else:
            kept[name, task, seed] = trace
            continue
        left_out[f"{trace.folder}: {reason}"] = None
    problems += left_out
    return kept


def read_sweep(folder: Path, overrides: Sequence[str] = ()) -> Sweep:
    """The definition of the sweep in `folder`.

    Raises:
        ReportError: if there is none, or it cannot be read.
    """
    definition = folder / "sweep.yaml"
    if not definition.is_file():
        raise ReportError(f"{folder}: no sweep here (no sweep.yaml); was it ever planned or run?")
    try:
        return load_submitted(folder, overrides)
    except DefinitionError as error:
        raise ReportError(str(error)) from error


def _row(variant: str, task: str, seed: int, config: RunConfig | None, trace: RunMetrics | None) -> RunRow:
    run_id = config.run_id if config else ""
    if trace is None:
        return RunRow(variant, task, seed, run_id, "missing", "", None, NO_SCORES, None, config)
    total_steps = config.total_steps if config else int(trace.steps[-1])
    scores = _scores(trace, total_steps)
    known = trace.status, trace.code, trace.folder, scores, trace.diverged_at, config, trace.verdicts
    return RunRow(variant, task, seed, run_id, *known)


NO_SCORES: dict[Score, float] = dict.fromkeys(SCORE_MEANINGS, float("nan"))


def _scores(trace: RunMetrics, total_steps: int) -> dict[Score, float]:
    """Scores of the rows that have a return. NaN for an unfinished run and for a run without such a row.

    A diverged run counts with what it logged: leaving it out would flatter its variant.
    """
    if not trace.finished:
        return NO_SCORES
    steps, values = trace.steps, np.where(np.isfinite(trace.values[0]), trace.values[0], np.nan)
    return {"final": final(steps, values, total_steps), "best": best(values), "auc": auc(steps, values)}


def _on(grid: np.ndarray, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`values` at `grid`: linear between its finite values, NaN before the first and after the last."""
    if np.array_equal(grid, steps):
        return values
    valid = np.isfinite(values)
    if not valid.any():
        return np.full(len(grid), np.nan)
    return np.interp(grid, steps[valid], values[valid], left=np.nan, right=np.nan)


def _grid(
    series: Mapping[tuple[str, str, int], Series], imported: Collection[tuple[str, str]]
) -> tuple[np.ndarray, dict[tuple[str, str], np.ndarray]]:
    """All steps that curves are drawn at, and by (variant, task) which of them its runs logged."""
    by_cell: dict[tuple[str, str], list[np.ndarray]] = {}
    for (variant, task, _), one in series.items():
        by_cell.setdefault((variant, task), []).append(one.steps)
    own: dict[tuple[str, str], np.ndarray] = {}
    for cell, every in by_cell.items():
        first = every[0]
        same = all(np.array_equal(first, steps) for steps in every)
        steps = first if same else np.unique(np.concatenate(every))
        if cell in imported and len(steps) > MOST_IMPORTED_STEPS:
            some = steps[np.linspace(0, len(steps) - 1, MOST_IMPORTED_STEPS).round().astype(int)]
            steps = np.unique([*some, *(run[end] for run in every for end in (0, -1))])
        own[cell] = steps
    if not own:
        return np.array([], np.int64), {}
    grid = np.unique(np.concatenate(list(own.values())))
    return grid, {cell: np.isin(grid, steps, assume_unique=True) for cell, steps in own.items()}
