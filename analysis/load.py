"""Load the scores and curves of a sweep. Every planned run has a row.

A run that is missing, unfinished or unreadable keeps its row, with its status and NaN scores.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from analysis.choices import Score
from analysis.run_metrics import RunMetrics, Status, ran_with, read_imported, read_packs
from scorer_core.config import RunConfig
from scorer_core.metrics import METRICS
from scorer_core.records import PackFolder
from scorer_core.scores import auc, best, final
from scorer_core.support.text import count
from sweeps.definition import Sweep
from sweeps.errors import DefinitionError
from sweeps.expansion import Variant
from sweeps.loading import load_submitted

LOSSES = ("td_error", "msbe", "be_variance", "leader_grad_norm", "follower_grad_norm")
DIAGNOSTICS = ("srank", "dormant", "gradient_cosine", "q_bias", "effective_ratio")  # the most informative ones
REPORTED = ("return", *LOSSES, *DIAGNOSTICS)  # the metrics of a report
MOST_IMPORTED_STEPS = 200  # steps of the curve of an imported variant on a task

SCORE_MEANINGS: dict[Score, str] = {
    "final": "mean return over the last 10 % of training",
    "best": "highest logged return",
    "auc": "mean return over the part of training that has returns (area under the curve / its length)",
}


class ReportError(Exception):
    """A sweep cannot be reported on; the message is one line with the reason."""


@dataclass(frozen=True)
class RunRow:
    """One run."""

    variant: str
    task: str
    seed: int
    run_id: str
    status: Status
    code_version: str  # commit and hash of the uncommitted changes of every attempt; "" without an attempt
    folder: Path | None  # of the pack with its metrics
    scores: dict[Score, float]  # NaN if it has none
    diverged_at: int | None = None  # the first step logged as diverged
    config: RunConfig | None = None  # None for an imported run
    verdicts: tuple[str, ...] = ()  # see scorer_core.verdicts; only of a finished run

    @property
    def scored(self) -> bool:
        """Whether it has a final score."""
        return bool(np.isfinite(self.scores["final"]))


@dataclass(frozen=True)
class Series:
    """The logged rows of one finished run."""

    steps: np.ndarray  # environment steps, num_steps
    values: np.ndarray  # `num_metrics x num_steps`; an imported run has the first metric only

    @property
    def valid(self) -> np.ndarray:
        """Whether the first metric has a value: bool, num_steps. A run has no return before its first episode ends."""
        return np.isfinite(self.values[0])


@dataclass(frozen=True)
class Results:
    """The results of a sweep. Matrices are `num_runs x num_tasks`: rows as in `seeds`, columns as in `tasks`."""

    folder: Path
    sweep: Sweep
    points: tuple[Variant, ...]  # variants in the order of the definition
    runs: tuple[RunRow, ...]
    steps: np.ndarray  # environment steps of all curves: the union of those in `logged`
    metrics: tuple[str, ...]  # the loaded metrics; scores are computed from the first
    # (variant, task, seed) -> rows of a finished run; only runs with a value of the first metric
    series: dict[tuple[str, str, int], Series] = field(repr=False)
    # (variant, task) -> bool, num_steps: where these runs logged a row. Their curve is drawn at these steps only, so
    # that no other variant can change it.
    logged: dict[tuple[str, str], np.ndarray] = field(repr=False)
    problems: tuple[str, ...] = ()  # records that could not be read
    version_notes: tuple[str, ...] = ()  # sentences on upgrades, different versions, unknown commits
    devices: tuple[str, ...] = ()  # with the number of packs whose last attempt ran on each

    def __repr__(self) -> str:
        counts = ", ".join(f"{number} {status}" for status, number in self.count().items())
        return f"<Results of {self.sweep.name}: {count(len(self.runs), 'run')} ({counts})>"

    @cached_property
    def variants(self) -> list[str]:
        return [variant.name for variant in self.points]

    @cached_property
    def baselines(self) -> list[str]:
        """The variants of the baseline: several if an axis changes it."""
        return [variant.name for variant in self.sweep.baseline_points]

    @cached_property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(run.task for run in self.runs))

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})

    @cached_property
    def _by_name(self) -> dict[str, Variant]:
        return {point.name: point for point in self.points}

    @cached_property
    def _places(self) -> tuple[dict[int, int], dict[str, int]]:
        return {seed: i for i, seed in enumerate(self.seeds)}, {task: j for j, task in enumerate(self.tasks)}

    def scores(self, score: Score = "final") -> dict[str, np.ndarray]:
        """By variant: `num_runs x num_tasks`, NaN without a finished run."""
        seed_row, task_column = self._places
        matrices = {name: np.full((len(seed_row), len(task_column)), np.nan) for name in self.variants}
        for run in self.runs:
            matrices[run.variant][seed_row[run.seed], task_column[run.task]] = run.scores[score]
        return matrices

    def curves(self, metric: str = "") -> dict[str, np.ndarray]:
        """By variant: `num_runs x num_tasks x num_steps`, of the first metric by default.

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
        """The variant that `name` is compared with; None for the baseline itself and in a sweep without a baseline."""
        variant = self._by_name[name]
        baseline = self.sweep.baseline_of(variant)
        return None if baseline is None or baseline == variant else baseline.name

    def verdicts(self) -> dict[str, Counter[str]]:
        """By variant: the number of finished runs with each verdict; `runs` is the number of all. No imported runs."""
        found: dict[str, Counter[str]] = {}
        for run in self.runs:
            if run.config and run.status in ("done", "diverged"):
                found.setdefault(run.variant, Counter()).update(["runs", *run.verdicts])
        return found

    def count(self) -> Counter[Status]:
        """The number of runs with each status."""
        return Counter(run.status for run in self.runs)


def load_results(folder: Path, metrics: Sequence[str] = ("return",), overrides: Sequence[str] = ()) -> Results:
    """Load all runs of the sweep in `folder`.

    Args:
        folder: outputs/<sweep>, with sweep.yaml and packs/.
        metrics: columns of the records; scores are computed from the first.
        overrides: KEY=VALUE changes of the definition, e.g. another baseline or fewer seeds.

    Raises:
        ReportError: if there is no readable definition, or no such metric. Unreadable records are not errors; they are
            listed in `problems`.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise ReportError(f"{metric}: not a metric; choose from: {', '.join(METRICS)}")
    sweep = read_sweep(folder, overrides)
    planned = {run.run_id: run.config for run in sweep.runs}
    problems: list[str] = []
    found = read_packs(folder, planned, metrics, problems)
    imported = _importable(sweep, read_imported(folder, problems), problems) if metrics[0] == "return" else {}
    cells = [(run.variant, run.config.task, run.config.seed, run.config, found.get(run.run_id)) for run in sweep.runs]
    cells += [(Variant(name), task, seed, None, run) for (name, task, seed), run in imported.items()]
    rows: list[RunRow] = []
    series: dict[tuple[str, str, int], Series] = {}
    for variant, task, seed, config, logged_run in cells:
        rows.append(_row(variant.name, task, seed, config, logged_run))
        if logged_run and logged_run.finished:
            one = Series(logged_run.steps, logged_run.values)
            if one.valid.any():
                series[variant.name, task, seed] = one
    points = tuple(dict.fromkeys(cell[0] for cell in cells))
    grid, logged = _grid(series, {(name, task) for name, task, _ in imported})
    packs = [PackFolder(path) for path in sorted({run.folder for run in found.values()})]
    return Results(
        folder, sweep, points, tuple(rows), grid, tuple(metrics), series, logged, tuple(problems), *ran_with(packs)
    )


def _importable(
    sweep: Sweep, imported: Mapping[tuple[str, str, int], RunMetrics], problems: list[str]
) -> dict[tuple[str, str, int], RunMetrics]:
    """The imported runs that fit the sweep; its definition may have changed after the import."""
    own, usable = {variant.name for variant in sweep.grid_variants}, {}
    left_out: dict[str, None] = {}
    for (name, task, seed), run in imported.items():
        if name in own:
            reason = f"the sweep also has a variant {name}; its imported runs are left out. Rename one of the two"
        elif task not in sweep.tasks:
            reason = f"{task} is not a task of the sweep; its imported runs are left out"
        else:
            usable[name, task, seed] = run
            continue
        left_out[f"{run.folder}: {reason}"] = None
    problems += left_out
    return usable


def read_sweep(folder: Path, overrides: Sequence[str] = ()) -> Sweep:
    """The definition of the sweep in `folder`.

    Raises:
        ReportError: if there is none, or it cannot be read.
    """
    definition = folder / "sweep.yaml"
    if not definition.is_file():
        raise ReportError(f"{folder}: not the folder of a sweep (no sweep.yaml)")
    try:
        return load_submitted(folder, overrides)
    except DefinitionError as error:
        raise ReportError(str(error)) from error


def _row(variant: str, task: str, seed: int, config: RunConfig | None, run: RunMetrics | None) -> RunRow:
    run_id = config.run_id if config else ""
    if run is None:
        return RunRow(variant, task, seed, run_id, "missing", "", None, NO_SCORES, None, config)
    total_steps = config.total_steps if config else int(run.steps[-1])
    scores = _scores(run, total_steps)
    known = run.status, run.code_version, run.folder, scores, run.diverged_at, config, run.verdicts
    return RunRow(variant, task, seed, run_id, *known)


NO_SCORES: dict[Score, float] = dict.fromkeys(SCORE_MEANINGS, float("nan"))


def _scores(run: RunMetrics, total_steps: int) -> dict[Score, float]:
    """All scores; NaN for an unfinished run.

    A diverged run is included with the returns that it logged: without it, its variant would look better than it is.
    """
    if not run.finished:
        return NO_SCORES
    steps, returns = run.steps, run.values[0]
    return {"final": final(steps, returns, total_steps), "best": best(returns), "auc": auc(steps, returns)}


def _on(grid: np.ndarray, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`values` at the steps `grid`: linear between finite values, NaN before the first and after the last."""
    if np.array_equal(grid, steps):
        return values
    valid = np.isfinite(values)
    if not valid.any():
        return np.full(len(grid), np.nan)
    return np.interp(grid, steps[valid], values[valid], left=np.nan, right=np.nan)


def _grid(
    series: Mapping[tuple[str, str, int], Series], imported: Collection[tuple[str, str]]
) -> tuple[np.ndarray, dict[tuple[str, str], np.ndarray]]:
    """The steps of all curves, and by (variant, task) which of them its runs logged."""
    by_cell: dict[tuple[str, str], list[np.ndarray]] = {}
    for (variant, task, _), one in series.items():
        by_cell.setdefault((variant, task), []).append(one.steps)
    own: dict[tuple[str, str], np.ndarray] = {}
    for cell, every in by_cell.items():
        first = every[0]
        same = all(np.array_equal(first, steps) for steps in every)
        steps = first if same else np.unique(np.concatenate(every))
        if cell in imported and len(steps) > MOST_IMPORTED_STEPS:
            chosen = steps[np.linspace(0, len(steps) - 1, MOST_IMPORTED_STEPS).round().astype(int)]
            steps = np.unique([*chosen, *(run[end] for run in every for end in (0, -1))])
        own[cell] = steps
    if not own:
        return np.array([], np.int64), {}
    grid = np.unique(np.concatenate(list(own.values())))
    return grid, {cell: np.isin(grid, steps, assume_unique=True) for cell, steps in own.items()}
