"""A study: Optuna's record of a search, and who trains what. Trials are claimed in batches and told once each.

    outputs/<search>/
      search.yaml              the definition, frozen
      study.journal            Optuna's record, unless it is kept in a database (storage.json says where)
      asking.lock              held while trials are asked for: one asker at a time sees all that are in flight
      batches/<id>/batch.json  trials trained together: their points, their packs, what was pruned, who began when
      batches/<id>/lock        held by the worker that trains them, and by nobody once it is dead
      packs/<pack_id>/         as in a sweep

A trial that is RUNNING in the storage while nobody holds its batch was left by a dead worker: the next one that claims
takes the batch over and goes on from its packs' last commits. A trial in no batch had only been asked for.

No trial is taken over forever. The batch counts the workers that began it (`starts`). If STARTS_WITHOUT_PROGRESS of
them in a row ended without a new commit or rung, its trials have failed, with the reason.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import BaseModel, Field, ValidationError

from scorer_core.identity import digest, pack_id
from scorer_core.record_forms import first_fault, read_record
from scorer_core.records import PackFolder
from scorer_core.support.commands import command_on
from scorer_core.support.errors import RecordError, reason
from scorer_core.support.files import replace_file, write_json
from scorer_core.support.secrets import mask
from sweeps.definition import DefinitionError
from sweeps.reading import with_checksum
from sweeps.samplers import make_sampler
from sweeps.search import Search, Settings, dump, load
from sweeps.storage import STORAGE_ERRORS, Lock, StorageError, as_storage_error, open_storage, storage_location

ASKING_PATIENCE_SECONDS = 900.0  # hundreds of workers that start together ask one after the other
STARTS_WITHOUT_PROGRESS = 3  # workers that were killed one after the other, at the same place
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
    starts: list[list[int]] = []
    error: str = ""


class TrialRecord(BaseModel):
    """The attributes of a trial that are read."""

    batch: str | None = None
    asked_again: Annotated[int, Field(alias="asked again")] = 0
    run_ids: Annotated[list[str], Field(alias="run ids")] = []
    scores: list[list[float | None]] | None = None  # objectives x runs
    runs: dict[str, str] = {}
    diverged: int = 0
    stopped_at: Annotated[int | None, Field(alias="stopped at")] = None
    error: str = ""


@dataclass
class Batch:
    """Trials trained together by the worker that holds its lock."""

    path: Path
    points: dict[int, Settings]  # by trial number
    packs: list[list[str]] = field(default_factory=list)  # the run ids of each pack
    decisions: list[dict[str, Any]] = field(default_factory=list)  # at each rung passed: its step, the pruned trials
    starts: list[list[int]] = field(default_factory=list)  # `progress` when each worker began
    error: str = ""  # why the last worker ended, if it could write it
    adopted: bool = False  # begun by another worker

    def __post_init__(self) -> None:
        self._lock = Lock(self.path / "lock")

    def read(self) -> bool:
        """Take over what the worker before wrote; False if it wrote nothing.

        Raises:
            RecordError: if the file cannot be read, or holds something else.
        """
        record = read_record(self.path / "batch.json", BatchRecord)
        if record is None:
            return False
        self.points, self.packs = record.points, record.packs
        self.decisions = [decision.model_dump() for decision in record.decisions]
        self.starts, self.error = record.starts, record.error
        self.adopted = True
        return True

    def write(self) -> None:
        write_json(
            self.path / "batch.json",
            {
                "points": {str(n): p for n, p in self.points.items()}, "packs": self.packs,
                "decisions": self.decisions, "starts": self.starts, "error": self.error,
            },
        )  # fmt: skip

    def progress(self, packs: Path) -> list[int]:
        """Numbers that change when a rung is passed, a pack is finished, or a checkpoint is committed."""
        folders = [PackFolder(packs / pack_id(run_ids)) for run_ids in self.packs]
        finished = sum((folder.path / "done.json").exists() for folder in folders)
        return [len(self.decisions), finished, sum(folder.committed_step() for folder in folders)]

    def forget_start(self) -> None:
        """The worker ends in good order, or for a reason that is not the trials': it does not count."""
        self.starts.pop()
        if self.path.exists():  # the folder of the search may have been moved
            with suppress(RecordError):  # that the disk is full may be the reason
                self.write()

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
        self._failed_to_draw = ""  # why the sampler drew no point, the last time that it failed
        self._asking = Lock(folder / "asking.lock")
        frozen = folder / "search.yaml"
        if frozen.exists():
            self._refuse_another(load(str(frozen)).identity, str(frozen))
        with self._asking.held(ASKING_PATIENCE_SECONDS), as_storage_error(self.storage_location):
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
                    f"search {search.name}: storage {self.storage_location} holds a study of this name that is not "
                    "ours; "
                    "give the search another `name`"
                )
            if bound["optuna"].split(".")[0] != optuna.__version__.split(".")[0]:
                raise DefinitionError(
                    f"search {search.name}: its study in {self.storage_location} was begun with Optuna "
                    f"{bound['optuna']}, "
                    f"this is {optuna.__version__}"
                )
            self._refuse_another(bound["definition"], self.storage_location)
            content = dump(search)
            if not frozen.exists() or frozen.read_bytes() not in (with_checksum(content), content.encode()):
                replace_file(frozen, with_checksum(content))

    @property
    def storage_location(self) -> str:
        return storage_location(self.folder)

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
        with self._asking.held(ASKING_PATIENCE_SECONDS), as_storage_error(self.storage_location):
            self._failed_to_draw = ""
            orphans: list[FrozenTrial] = []
            for trial in self.optuna.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
                name = trial.user_attrs.get("batch")
                if name is None:
                    orphans.append(trial)
                    continue
                batch = Batch(self.folder / "batches" / name, {})
                if not batch.acquire():
                    continue  # a worker that lives trains it
                try:
                    taken = self._is_running(trial.number) and self._take_over(batch, trial, orphans)
                except BaseException:
                    batch.release()
                    raise
                if taken:
                    return batch
                batch.release()
            points: dict[int, Settings] = {}
            for trial in orphans[:at_most]:
                points |= self._ask_again(trial)
            left = self.search.trials_at_most - self._begun()
            for _ in range(min(at_most - len(points), left)):
                points |= self._ask_new()
            if self._failed_to_draw and not points:
                raise RecordError(self._failed_to_draw)
            return self._new_batch(points) if points else None

    def _take_over(self, batch: Batch, trial: FrozenTrial, orphans: list[FrozenTrial]) -> bool:
        """Begin the batch of a dead worker; False if its trials are not in it or have failed too often."""
        if not batch.read() or trial.number not in batch.points:
            orphans.append(trial)
            return False
        batch.starts.append(batch.progress(self.folder / "packs"))
        recent = batch.starts[-1 - STARTS_WITHOUT_PROGRESS :]
        if len(recent) > STARTS_WITHOUT_PROGRESS and all(start == recent[0] for start in recent):
            why = f"{STARTS_WITHOUT_PROGRESS} workers in a row ended without a new checkpoint of it"
            why += f"; the last error: {batch.error}" if batch.error else ", killed or out of memory; see their logs"
            running = [number for number in batch.points if self._is_running(number)]
            self.fail(running, f"{why}. {self.how_to_retry(len(running))}")
            return False
        batch.write()
        return True

    def how_to_retry(self, failed: int) -> str:
        """What to do about failed trials, which are never begun again."""
        return f"After the cause is fixed, search again with --trials {self.search.trials + failed} to replace them"

    def _new_batch(self, points: dict[int, Settings]) -> Batch:
        name = f"{min(points):06d}"
        batch = Batch(self.folder / "batches" / name, points)
        batch.acquire()
        for number in points:
            self.note(number, {"batch": name})
        batch.starts.append(batch.progress(self.folder / "packs"))
        batch.write()
        return batch

    def _ask_new(self) -> dict[int, Settings]:
        storage = self.optuna._storage
        trial_id = self.optuna._pop_waiting_trial_id()
        if trial_id is None:
            trial_id = storage.create_new_trial(self.optuna._study_id)
        return self._draw(storage.get_trial_number_from_id(trial_id), trial_id)

    def _ask_again(self, left: FrozenTrial) -> dict[int, Settings]:
        """The point of a trial whose asker died in the middle of asking; nothing if several have died of it."""
        asked = left.user_attrs.get("asked again", 0)
        if asked == STARTS_WITHOUT_PROGRESS:
            why = f"{asked} workers in a row ended while sampler {self.search.sampler} drew its point"
            self.fail([left.number], f"{why}. {self.how_to_retry(1)}")
            return {}
        self.note(left.number, {"asked again": asked + 1})
        try:
            return self._draw(left.number, left._trial_id)
        except RecordError:
            self.note(left.number, {"asked again": asked})
            raise

    def _draw(self, number: int, trial_id: int) -> dict[int, Settings]:
        """The point of a trial, by its number; nothing if the sampler raises, which fails the trial.

        Raises:
            RecordError: if the sampler needs a package that is missing, or the storage cannot be used.
        """
        sampler = self.search.sampler
        try:
            self.optuna._thread_local.cached_all_trials = None  # as Study.ask does
            self.optuna.sampler = make_sampler(self.search, number)
            return {number: self._point(Trial(self.optuna, trial_id))}
        except STORAGE_ERRORS:
            raise
        except ImportError as error:
            raise RecordError(f"sampler {sampler}: needs the Python package {error.name or error}") from None
        except Exception as error:
            self._failed_to_draw = f"sampler {sampler} failed: {one_line_reason(error)}"
            self.fail([number], self._failed_to_draw)
            return {}

    def _point(self, trial: Trial) -> Settings:
        point: Settings = {}
        for name, dimension in self.search.space.items():
            if dimension.exists(point):
                point[name] = dimension.suggest(trial, name)
        return point

    # --- what is known ---

    def trials(self) -> list[FrozenTrial]:
        """All trials, in the order of their numbers.

        Raises:
            StorageError: if the storage cannot be used, or the attributes of a trial are damaged.
        """
        with as_storage_error(self.storage_location):
            trials = self.optuna.get_trials(deepcopy=False)
        for trial in trials:
            if fault := self._fault_of(trial):
                raise StorageError(f"storage {self.storage_location}: damaged: trial {trial.number}: {fault}")
        return trials

    def _fault_of(self, trial: FrozenTrial) -> str:
        """What is wrong with the attributes of a trial; "" if nothing is."""
        try:
            record = TrialRecord.model_validate(trial.user_attrs)
            for key in trial.user_attrs:
                if key.startswith("rung "):
                    np.array(trial.user_attrs[key], float)
        except ValidationError as error:
            return first_fault(error)
        except (TypeError, ValueError):
            return "the scores at a rung are not numbers"
        if trial.state != TrialState.COMPLETE:
            return ""
        shape = [len(self.search.default)] * len(self.search.objective)
        if [len(runs) for runs in record.scores or ()] != shape:
            return "complete, but without a score of each run"
        if not record.run_ids:
            return "complete, but without the ids of its runs"
        return "complete, but without a value" if trial.values is None else ""

    def _begun(self) -> int:
        return sum(trial.state != TrialState.WAITING for trial in self.optuna.get_trials(deepcopy=False))

    def _is_running(self, number: int) -> bool:
        return self.optuna._storage.get_trial(self._id(number)).state == TrialState.RUNNING

    def trials_left(self) -> int:
        """Trials that are still to be told, those in flight among them."""
        return self.search.trials_at_most - sum(trial.state.is_finished() for trial in self.trials())

    def failures(self) -> dict[str, list[int]]:
        """Why trials failed: the numbers of the trials by reason."""
        reasons: dict[str, list[int]] = {}
        for trial in self.trials():
            if trial.state == TrialState.FAIL:
                reasons.setdefault(trial.user_attrs.get("error", "no reason was recorded"), []).append(trial.number)
        return reasons

    def all_failed(self) -> bool:
        """Has every trial failed?"""
        states = {trial.state for trial in self.trials()}
        return states == {TrialState.FAIL}

    def finished_runs(self) -> dict[str, str]:
        """Runs of complete trials, each with the pack that holds it: a point met again needs no training."""
        return {
            run_id: pack
            for trial in self.trials()
            if trial.state == TrialState.COMPLETE
            for run_id, pack in trial.user_attrs.get("runs", {}).items()
        }

    def rung_scores(self, rung: int) -> dict[int, np.ndarray]:
        """Scores of every trial that has passed this rung, by trial number; runs are in the order of Search.runs.

        NaN (null in the storage) is the score of a run that has none yet.
        """
        key = rung_key(rung)
        return {t.number: np.array(t.user_attrs[key], float) for t in self.trials() if key in t.user_attrs}

    # --- telling ---

    def note(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Attach attributes to a trial that is still running; nothing happens to one that has been told."""
        with as_storage_error(self.storage_location):
            storage, trial_id = self.optuna._storage, self._id(number)
            if not storage.get_trial(trial_id).state.is_finished():
                for key, value in attributes.items():
                    storage.set_trial_user_attr(trial_id, key, value)

    def report(self, number: int, value: float, step: int) -> None:
        """A value on the way, as a dashboard shows it."""
        with as_storage_error(self.storage_location):
            storage, trial_id = self.optuna._storage, self._id(number)
            if not storage.get_trial(trial_id).state.is_finished():
                storage.set_trial_intermediate_value(trial_id, step, value)

    def fail(self, numbers: Iterable[int], why: str) -> None:
        """End trials as failed, for a reason of one line; those that have been told are left as they are."""
        for number in numbers:
            self.note(number, {"error": why})
            self.tell(number, TrialState.FAIL)

    def tell(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        """End a trial; one that has been told is left as it is."""
        with as_storage_error(self.storage_location):
            self.optuna.sampler = RandomSampler()  # which does nothing about it; a grid's would stop the process
            self.optuna.tell(number, values, state, skip_if_finished=True)

    def _id(self, number: int) -> int:
        return self.optuna._storage.get_trial_id_from_study_id_trial_number(self.optuna._study_id, number)


def one_line_reason(error: BaseException) -> str:
    """An exception in one line; its type is left out where the message is written for a user."""
    return mask(reason(error).removeprefix("DefinitionError: "))[:300]


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
        raise DefinitionError(f"{folder}: no search has been begun here; to start one: scorer search NAME")
    return Study(load(str(folder / "search.yaml")), folder)


def failures_in_words(study: Study, at_most: int = 3) -> list[str]:
    """One line per reason for which trials failed; none if none did."""
    lines = []
    for why, numbers in study.failures().items():
        more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
        noun = "trial" if len(numbers) == 1 else "trials"
        lines.append(f"{noun} {', '.join(map(str, numbers[:10]))}{more} failed: {why}")
    if len(lines) > at_most:
        rest = f"{len(lines) - at_most} more reasons: {command_on('search show', study.folder, '--json')}"
        lines = [*lines[:at_most], rest]
    return lines


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
        raise DefinitionError(f"{outputs}: no search has been begun here; to start one: scorer search NAME")
    return study_in(begun[-1].parent)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({digest(value)[:6]})"
