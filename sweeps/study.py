"""A study: Optuna's record of a search, and who trains what. Trials are claimed in batches and told once each.

    outputs/<search>/
      search.yaml              the definition, frozen
      study.journal            Optuna's record, unless it is kept in a database (storage.json says where)
      asking.lock              held while trials are asked for: one asker at a time sees all that are in flight
      batches/<id>/batch.json  trials trained together: their points, their packs, what was pruned
      batches/<id>/lock        held by the worker that trains them, and by nobody once it is dead
      packs/<pack_id>/         as in a sweep

A trial that is RUNNING in the storage while nobody holds its batch was left by a dead worker: the next one that claims
takes the batch over and goes on from its packs' last commits. A trial in no batch had only been asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import BaseModel

from scorer_core.config import digest
from scorer_core.records import read_record, replace_file, write_json
from sweeps.definition import DefinitionError
from sweeps.samplers import make_sampler
from sweeps.search import Search, Settings, dump, load
from sweeps.storage import Lock, open_storage, told_in_a_line, where

ASKING_PATIENCE_SECONDS = 900.0  # hundreds of workers that start together ask one after the other
BOUND_TO = "scorer"  # the study's attribute that holds the definition and the version of Optuna


class Decision(BaseModel):
    """What happened at one rung."""

    step: int
    pruned: list[int]


class BatchRecord(BaseModel):
    """batch.json"""

    points: dict[int, dict[str, Any]]
    packs: list[list[str]]
    decisions: list[Decision]


@dataclass
class Batch:
    """Trials trained together by whoever holds its lock."""

    path: Path
    points: dict[int, Settings]  # by trial number
    packs: list[list[str]] = field(default_factory=list)  # the run ids of each pack, as first made
    decisions: list[dict[str, Any]] = field(default_factory=list)  # at each rung passed: its step, the pruned trials
    adopted: bool = False  # begun by another worker

    def __post_init__(self) -> None:
        self._lock = Lock(self.path / "lock")

    @classmethod
    def read(cls, path: Path) -> "Batch | None":
        record = read_record(path / "batch.json", BatchRecord)
        if record is None:
            return None
        decisions = [decision.model_dump() for decision in record.decisions]
        return cls(path, record.points, record.packs, decisions, adopted=True)

    def write(self) -> None:
        write_json(
            self.path / "batch.json",
            {"points": {str(n): p for n, p in self.points.items()}, "packs": self.packs, "decisions": self.decisions},
        )

    def acquire(self) -> bool:
        return self._lock.acquire(patience=0)

    def release(self) -> None:
        self._lock.release()


class Study:
    """The study of the search in `folder`, made if there is none."""

    def __init__(self, search: Search, folder: Path):
        """Open or create it.

        Raises:
            StorageError: if its storage cannot be used.
            DefinitionError: if it was begun with another definition; nothing is changed then.
        """
        self.search, self.folder = search, folder
        self._asking = Lock(folder / "asking.lock")
        frozen = folder / "search.yaml"
        if frozen.exists():
            self._refuse_another(load(str(frozen)).identity, str(frozen))
        with self._asking.held(ASKING_PATIENCE_SECONDS), told_in_a_line(self.place):
            storage = open_storage(folder)
            try:
                self.optuna = optuna.load_study(study_name=search.name, storage=storage)
            except KeyError:
                self.optuna = optuna.create_study(
                    study_name=search.name, storage=storage, directions=list(search.directions)
                )
                bound = {"definition": search.identity, "optuna": optuna.__version__}
                self.optuna.set_user_attr(BOUND_TO, bound)
            bound = self.optuna.user_attrs.get(BOUND_TO)
            if bound is None:
                raise DefinitionError(
                    f"search {search.name}: storage {self.place} holds a study of this name that is not ours; "
                    "give the search another `name`"
                )
            if bound["optuna"].split(".")[0] != optuna.__version__.split(".")[0]:
                raise DefinitionError(
                    f"search {search.name}: its study in {self.place} was begun with Optuna {bound['optuna']}, "
                    f"this is {optuna.__version__}"
                )
            self._refuse_another(bound["definition"], self.place)
            content = dump(search).encode()
            if not frozen.exists() or frozen.read_bytes() != content:
                replace_file(frozen, content)

    @property
    def place(self) -> str:
        return where(self.folder)

    def _refuse_another(self, there: Mapping[str, Any], place: str) -> None:
        here = self.search.identity
        for key in here:
            if here[key] != there.get(key):
                raise DefinitionError(
                    f"search {self.search.name}: begun with another definition, as {place} has it: "
                    f"{key} is {_short(there.get(key))} there and {_short(here[key])} here; "
                    "give this one another `name`"
                )

    # --- claiming ---

    def claim(self, at_most: int) -> Batch | None:
        """Trials for this worker alone: those of a dead worker first, else up to `at_most` new ones; None if no more.

        Raises:
            StorageError: if the storage cannot be used.
        """
        with self._asking.held(ASKING_PATIENCE_SECONDS), told_in_a_line(self.place):
            trials = self.optuna.get_trials(deepcopy=False)
            orphans = []
            for trial in trials:
                if trial.state != TrialState.RUNNING:
                    continue
                batch = self._batch_of(trial)
                if batch is None:
                    orphans.append(trial)
                elif batch.acquire():
                    return batch
            begun = sum(trial.state != TrialState.WAITING for trial in trials)
            points = {trial.number: self._ask(trial) for trial in orphans[:at_most]}
            for _ in range(min(at_most - len(points), self.search.trials_at_most - begun)):
                points |= [self._ask_new()]
            return self._new_batch(points) if points else None

    def _batch_of(self, trial: FrozenTrial) -> Batch | None:
        name = trial.user_attrs.get("batch")
        batch = Batch.read(self.folder / "batches" / name) if name else None
        return batch if batch and trial.number in batch.points else None

    def _new_batch(self, points: dict[int, Settings]) -> Batch:
        name = f"{min(points):06d}"
        batch = Batch(self.folder / "batches" / name, points)
        batch.acquire()
        for number in points:
            self.note(number, {"batch": name})
        batch.write()
        return batch

    def _ask_new(self) -> tuple[int, Settings]:
        number = len(self.optuna.get_trials(deepcopy=False))
        self.optuna.sampler = make_sampler(self.search, number)
        trial = self.optuna.ask()
        return trial.number, self._point(trial)

    def _ask(self, left: FrozenTrial) -> Settings:
        """The point of a trial whose asker died in the middle of asking."""
        self.optuna.sampler = make_sampler(self.search, left.number)
        return self._point(Trial(self.optuna, left._trial_id))

    def _point(self, trial: Trial) -> Settings:
        point: Settings = {}
        for name, dimension in self.search.space.items():
            if dimension.exists(point):
                point[name] = dimension.suggest(trial, name)
        return point

    # --- what is known ---

    def trials(self) -> list[FrozenTrial]:
        with told_in_a_line(self.place):
            return self.optuna.get_trials(deepcopy=False)

    def trials_left(self) -> int:
        """Trials that are still to be told, those in flight among them."""
        return self.search.trials_at_most - sum(trial.state.is_finished() for trial in self.trials())

    def finished_runs(self) -> dict[str, str]:
        """Runs of complete trials, each with the pack that holds it: a point met again needs no training."""
        return {
            run_id: pack
            for trial in self.trials()
            if trial.state == TrialState.COMPLETE
            for run_id, pack in trial.user_attrs.get("runs", {}).items()
        }

    def rung_scores(self, rung: int) -> dict[int, np.ndarray]:
        """Scores of every trial that has passed this rung, by trial number; runs are in the order of Search.runs."""
        key = rung_key(rung)
        return {t.number: np.array(t.user_attrs[key], float) for t in self.trials() if key in t.user_attrs}

    # --- telling ---

    def note(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Attach attributes to a trial that is still running; nothing happens to one that has been told."""
        with told_in_a_line(self.place):
            storage, trial_id = self.optuna._storage, self._id(number)
            if not storage.get_trial(trial_id).state.is_finished():
                for key, value in attributes.items():
                    storage.set_trial_user_attr(trial_id, key, value)

    def report(self, number: int, value: float, step: int) -> None:
        """A value on the way, as a dashboard shows it."""
        with told_in_a_line(self.place):
            storage, trial_id = self.optuna._storage, self._id(number)
            if not storage.get_trial(trial_id).state.is_finished():
                storage.set_trial_intermediate_value(trial_id, step, value)

    def tell(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        """End a trial; one that has been told is left as it is."""
        with told_in_a_line(self.place):
            self.optuna.sampler = RandomSampler()  # which does nothing about it; a grid's would stop the process
            self.optuna.tell(number, values, state, skip_if_finished=True)

    def _id(self, number: int) -> int:
        return self.optuna._storage.get_trial_id_from_study_id_trial_number(self.optuna._study_id, number)


def rung_key(rung: int) -> str:
    """The trial's attribute that holds the scores of its runs at this rung."""
    return f"rung {rung}"


def study_in(folder: Path) -> Study:
    """The study that has been begun in `folder`.

    Raises:
        DefinitionError: if none has.
        StorageError: if its storage cannot be used.
    """
    if not (folder / "search.yaml").exists():
        raise DefinitionError(f"{folder}: no search has been begun here; scorer search NAME")
    return Study(load(str(folder / "search.yaml")), folder)


def find_study(outputs: Path, name: str | None) -> Study:
    """The study of the search called `name`, or of the definition at that path; without a name, the one begun last.

    Raises:
        DefinitionError: if there is none.
        StorageError: if its storage cannot be used.
    """
    if name is not None:
        return study_in(outputs / (load(name).name if Path(name).suffix in (".yaml", ".yml") else name))
    begun = sorted(outputs.glob("*/search.yaml"), key=lambda path: path.stat().st_mtime)
    if not begun:
        raise DefinitionError(f"{outputs}: no search has been begun here; scorer search NAME")
    return study_in(begun[-1].parent)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({digest(value)[:6]})"
