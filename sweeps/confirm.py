"""The confirmation of a search: its best trials and the default as an ordinary sweep on new seeds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from scorer_core.config import RunConfig
from scorer_core.pack_folders import pack_folders
from scorer_core.support.commands import command, shown_path
from sweeps import loading, scores
from sweeps.definition import Sweep
from sweeps.errors import DefinitionError
from sweeps.expansion import Variant
from sweeps.search import Search, Settings
from sweeps.study import Study
from sweeps.trials import RUN_IDS, attributes

DEFAULT = "default"


@dataclass(frozen=True)
class Confirmed:
    """One variant of a confirmation: its scores in the search, and its scores on new seeds."""

    name: str
    point: Settings
    searched: np.ndarray  # num_objectives x num_runs; num_runs is 0 for the default, which the search did not try
    confirmed: np.ndarray  # num_objectives x num_runs, NaN for an unfinished run


def ranking(study: Study) -> list[FrozenTrial]:
    """Complete trials, the best first and each point once; with several objectives, only the Pareto front.

    Raises:
        StorageError: if the storage cannot be used.
    """
    complete = [trial for trial in study.trials() if trial.state == TrialState.COMPLETE]
    if len(study.search.objective) > 1:
        front = {trial.number for trial in study.optuna.best_trials}
        complete = [trial for trial in complete if trial.number in front]
    sign = -1 if study.search.directions[0] == "maximize" else 1
    complete.sort(key=lambda trial: (sign * trial.values[0], trial.number))
    once: dict[tuple[str, ...], FrozenTrial] = {}
    for trial in complete:
        once.setdefault(tuple(attributes(trial)[RUN_IDS]), trial)
    return list(once.values())


def confirmation(study: Study, top: int, seeds: int) -> Sweep:
    """The sweep of the best `top` trials and the default, on `seeds` seeds that the search has not used.

    Raises:
        DefinitionError: if no trial is complete yet.
    """
    search, best = study.search, ranking(study)[:top]
    if not best:
        again = command("search", shown_path(study.folder / "search.yaml"), outputs=study.folder.parent)
        raise DefinitionError(f"search {search.name}: no trial is complete yet. Continue with: {again}")
    first = max(search.seeds) + 1
    return search.sweep(
        {DEFAULT: {}} | {_variant(trial): dict(trial.params) for trial in best},
        list(range(first, first + seeds)),
        name=confirmed_name(search),
        question=f"Are the best trials of {search.name} better than the default on new seeds?",
    )


def confirmed_name(search: Search) -> str:
    """The name of the sweep that confirms `search`."""
    return f"{search.name}-confirm"


def compared(study: Study) -> list[Confirmed]:
    """The variants of the confirmation with their scores; none if there is no confirmation.

    Raises:
        DefinitionError, RecordError: if the confirmation cannot be read.
    """
    folder = study.folder.parent / confirmed_name(study.search)
    if not (folder / "sweep.yaml").exists():
        return []
    sweep = loading.load_submitted(folder)
    trials = {_variant(trial): trial for trial in study.trials()}
    confirmed = {variant.base_name: found for variant, found in scores_of(study.search, sweep, folder).items()}
    nothing = np.zeros((len(study.search.objective), 0))
    return [
        Confirmed(
            name,
            dict(sweep.variants[name]),
            np.array(trials[name].user_attrs["scores"], float) if name in trials else nothing,
            confirmed[name],
        )
        for name in sweep.variants
    ]


def scores_of(search: Search, sweep: Sweep, folder: Path) -> dict[Variant, np.ndarray]:
    """The objectives of `search` on the runs of a sweep: per variant `num_objectives x num_runs`, NaN if unfinished.

    Raises:
        RecordError: if its records cannot be read.
    """
    packs = pack_folders(folder / "packs")
    ended = {run_id for pack in packs for run_id in pack.done()}
    curves = scores.read_curves(packs, {run.run_id for run in sweep.runs} & ended)
    runs: dict[Variant, list[RunConfig]] = {}
    for run in sweep.runs:
        runs.setdefault(run.variant, []).append(run.config)
    return {variant: scores.blocks(search, configs, curves, sweep.total_steps) for variant, configs in runs.items()}


def _variant(trial: FrozenTrial) -> str:
    return f"trial-{trial.number}"
