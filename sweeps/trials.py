"""The attributes of a trial in Optuna's storage: names, forms, and how those of version 0.1 are read."""

import re
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel, ValidationError

from scorer_core.record_forms import first_fault
from sweeps.search import Search

RUN_IDS = "run_ids"
PRUNED_AT_STEP = "pruned_at_step"
ASKED_AGAIN = "asked_again"  # how often a point was drawn for this trial after a worker had ended in drawing it
OLD_NAMES = {"run ids": RUN_IDS, "stopped at": PRUNED_AT_STEP, "asked again": ASKED_AGAIN}


class TrialRecord(BaseModel):
    """The attributes of a trial that are read."""

    batch: str | None = None
    asked_again: int = 0
    run_ids: list[str] = []
    scores: list[list[float | None]] | None = None  # num_objectives x num_runs
    runs: dict[str, str] = {}  # run id to the pack that has its metrics
    diverged: int = 0
    pruned_at_step: int | None = None  # environment steps
    error: str = ""


def attributes(trial: FrozenTrial) -> dict[str, Any]:
    """The attributes of `trial` in the names of this version; a new name wins over the old one."""
    old, new = {}, {}
    for key, value in trial.user_attrs.items():
        name = _current_name(key)
        (new if name == key else old)[name] = value
    return old | new


def rung_scores_key(rung: int | str) -> str:
    """The attribute with the scores of the trial's runs at this rung: num_runs values, null without a score."""
    return f"rung_{rung}_scores"


def fault(trial: FrozenTrial, search: Search) -> str:
    """What is wrong with the attributes of `trial`, in one line; "" if nothing is."""
    found = attributes(trial)
    try:
        record = TrialRecord.model_validate(found)
        for key in found:
            if re.fullmatch(r"rung_.*_scores", key):
                np.array(found[key], float)
    except ValidationError as error:
        return first_fault(error)
    except (TypeError, ValueError):
        return "the scores at a rung are not numbers"
    if trial.state != TrialState.COMPLETE:
        return ""
    shape = [len(search.default)] * len(search.objective)
    if [len(runs) for runs in record.scores or ()] != shape:
        return "complete, but without a score of each run"
    if not record.run_ids:
        return "complete, but without the ids of its runs"
    return "complete, but without a value" if trial.values is None else ""


def _current_name(key: str) -> str:
    rung = re.fullmatch(r"rung (.*)", key)
    return rung_scores_key(rung[1]) if rung else OLD_NAMES.get(key, key)
