"""The results of a search in numbers: trials with intervals, slices along each field, importance with intervals."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from analysis.run_metrics import ran_with
from analysis.statistics import Bootstrap, Estimate, estimate
from scorer_core.config import RunConfig
from scorer_core.pack_folders import pack_folders
from sweeps import loading
from sweeps.confirm import Confirmed, compared, ranking, scores_of
from sweeps.errors import DefinitionError
from sweeps.search import Search
from sweeps.study import Study
from sweeps.trials import PRUNED_AT_STEP, attributes

BINS = 8  # groups of trials along a numeric field
RESAMPLED = 100  # bootstrap repetitions of importances
ENOUGH_TRIALS = 10  # complete trials that an importance needs
BOOTSTRAP = Bootstrap(reps=5_000)


@dataclass(frozen=True)
class TrialRow:
    """One trial."""

    number: int
    state: str
    point: dict[str, Any]
    estimates: tuple[Estimate, ...]  # one per objective; empty unless complete
    note: str = ""  # the step at which it was pruned, or why it failed


@dataclass(frozen=True)
class Place:
    """A range of a field, or one of its values, and the objective of the trials there."""

    at: Any  # the mean of its values
    low: Any
    high: Any
    trials: int
    estimate: Estimate


@dataclass(frozen=True)
class SearchSummary:
    """All numbers of a search."""

    study: Study
    rows: list[TrialRow]
    best: list[TrialRow]  # best first; with several objectives the Pareto front
    slices: dict[str, list[Place]]
    importance: dict[str, Estimate]
    confirmed: list[Confirmed]
    against: dict[str, list[Place]]  # variants of a sweep, along the same fields
    steps_trained: int  # environment steps
    steps_saved: int  # by pruning
    notes: tuple[str, ...]  # on what the packs ran with: commits that are not known, different versions

    @property
    def search(self) -> Search:
        return self.study.search

    def count(self, state: str) -> int:
        """The number of trials in this state."""
        return sum(row.state == state for row in self.rows)


def summarize_search(study: Study, against: Path | None = None) -> SearchSummary:
    """All numbers of `scorer search show`; `against` is the folder of a sweep to compare with the slices.

    Raises:
        DefinitionError: if the definition of the confirmation or of that sweep cannot be read, or does not fit.
        RecordError: if their records cannot be read.
    """
    trials, search = study.trials(), study.search
    rows = {trial.number: _row(search, trial) for trial in trials}
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    each = search.total_steps * len(search.default)
    pruned = [step for trial in trials if (step := attributes(trial).get(PRUNED_AT_STEP)) is not None]
    saved = sum((search.total_steps - step) * len(search.default) for step in pruned)
    return SearchSummary(
        study,
        list(rows.values()),
        [rows[trial.number] for trial in ranking(study)],
        {name: _slice(search, name, complete) for name in search.space} if complete else {},
        _importance(study, complete),
        compared(study),
        _against(search, against) if against else {},
        each * (len(complete) + len(pruned)) - saved,
        saved,
        ran_with(pack_folders(study.folder / "packs")).version_notes,
    )


def interval(search: Search, runs: np.ndarray) -> Estimate:
    """The IQM of run scores with its bootstrap interval; `runs` has num_tasks x num_seeds scores, task by task."""
    return estimate(_matrix(search, runs), BOOTSTRAP)


def _matrix(search: Search, runs: np.ndarray) -> np.ndarray:
    """`num_runs x num_tasks`, a row per seed."""
    return np.asarray(runs, float).reshape(len(search.tasks), -1).T


def _row(search: Search, trial: FrozenTrial) -> TrialRow:
    estimates: tuple[Estimate, ...] = ()
    note = trial.user_attrs.get("error", "")
    if trial.state == TrialState.COMPLETE:
        estimates = tuple(interval(search, np.array(runs, float)) for runs in trial.user_attrs["scores"])
        note = f"{trial.user_attrs['diverged']} diverged" if trial.user_attrs.get("diverged") else ""
    elif (step := attributes(trial).get(PRUNED_AT_STEP)) is not None:
        note = f"at step {step:,}"
    return TrialRow(trial.number, trial.state.name.lower(), trial.params, estimates, note)


def _slice(search: Search, name: str, complete: Sequence[FrozenTrial]) -> list[Place]:
    """The first objective along one field; a numeric field in ranges with equal numbers of trials."""
    having = sorted(
        (t for t in complete if name in t.params), key=lambda t: (str(type(t.params[name])), t.params[name])
    )
    if not having:
        return []
    if search.space[name].numeric:
        having.sort(key=lambda trial: trial.params[name])
        parts = np.array_split(np.arange(len(having)), min(BINS, max(1, len(having) // 2)))
        groups = [[having[i] for i in part] for part in parts]
    else:
        groups = [[t for t in having if t.params[name] == value] for value in search.space[name].values]
    return [_place(search, name, group) for group in groups if group]


def _place(search: Search, name: str, trials: Sequence[FrozenTrial]) -> Place:
    """The score of each seed is averaged over the trials first: they share the seeds, and seeds are resampled."""
    values = [trial.params[name] for trial in trials]
    runs = np.mean([trial.user_attrs["scores"][0] for trial in trials], axis=0)
    dimension = search.space[name]
    middle = values[0]
    if dimension.numeric:
        middle = float(np.exp(np.mean(np.log(values))) if dimension.form.startswith("log") else np.mean(values))
    return Place(middle, values[0], values[-1], len(trials), interval(search, runs))


def _importance(study: Study, complete: Sequence[FrozenTrial]) -> dict[str, Estimate]:
    """PED-ANOVA's importance of each field, with a 95 % bootstrap interval over trials."""
    search = study.search
    if len(search.space) < 2 or len(complete) < ENOUGH_TRIALS or len(search.objective) > 1:
        return {}
    rng = np.random.default_rng(0)
    found = _importances(study, complete)
    drawn = [
        _importances(study, [complete[i] for i in rng.integers(0, len(complete), len(complete))])
        for _ in range(RESAMPLED)
    ]
    bounds = {name: np.quantile([one.get(name, 0.0) for one in drawn], [0.025, 0.975]) for name in found}
    return {name: Estimate(np.asarray(value), *map(np.asarray, bounds[name])) for name, value in found.items()}


def _importances(study: Study, trials: Sequence[FrozenTrial]) -> dict[str, float]:
    resampled = optuna.create_study(direction=study.search.directions[0])
    resampled.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of trials with equal values, which resampling creates
        return get_param_importances(resampled, evaluator=PedAnovaImportanceEvaluator())


def _against(search: Search, folder: Path) -> dict[str, list[Place]]:
    """The variants of a sweep that differ from the search's trials only in searched fields, along each field."""
    if not (folder / "sweep.yaml").exists():
        raise DefinitionError(f"{folder}: not the folder of a sweep (no sweep.yaml)")
    sweep = loading.load_submitted(folder)
    if set(sweep.tasks) != set(search.tasks):
        raise DefinitionError(f"{folder}: its tasks ({', '.join(sweep.tasks)}) are not the tasks of {search.name}")
    found: dict[str, list[Place]] = {}
    scores = scores_of(search, sweep, folder)
    configs = {run.variant: run.config for run in sweep.first_runs}
    along = {variant: [name for name in search.space if name in dict(variant.point)] for variant in scores}
    differences = {variant: _differences(search, configs[variant]) for variant, names in along.items() if names}
    if not differences:
        raise DefinitionError(f"{folder}: no axis of this sweep is a field that {search.name} searches")
    if all(differences.values()):
        fewest = min(differences.values(), key=len)
        raise DefinitionError(
            f"{folder}: no variant of this sweep has the settings of a trial of {search.name}: {'; '.join(fewest)}"
        )
    for variant in (variant for variant, unequal in differences.items() if not unequal):
        for name in along[variant]:
            value, runs = getattr(configs[variant], name), scores[variant][0]
            if value is not None and np.isfinite(runs).any():
                found.setdefault(name, []).append(Place(value, value, value, 1, interval(search, runs)))
    return found


def _differences(search: Search, config: RunConfig) -> list[str]:
    """How a run of a sweep differs from a trial with the same values of the searched fields, except the seed."""
    point = {name: getattr(config, name) for name in search.space}
    trial = search.runs({name: value for name, value in point.items() if value is not None})
    ours = next(run for run in trial if run.task == config.task).model_dump()
    theirs = config.model_dump()
    return [
        f"{k} is {theirs[k]} in the sweep and {ours[k]} in the search"
        for k in ours
        if k != "seed" and ours[k] != theirs[k]
    ]
