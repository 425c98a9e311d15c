"""A study: Optuna's record of a search, shared by all its workers. Each trial is trained and reported once.

    outputs/<search>/
      search.yaml              the definition, frozen
      study.journal            Optuna's record, unless it is in a database (storage.json has its URL)
      asking.lock              locked while trials are drawn: the worker that draws sees all trials that are running
      batches/<id>/batch.json  trials trained together: their points, their packs, pruned trials, starts of workers
      batches/<id>/lock        locked by the worker that trains the batch; free once this worker has ended
      packs/<pack_id>/         as in a sweep

A trial that is RUNNING in the storage while its batch is not locked was left by a worker that ended. The next worker
that asks for trials takes the batch over and continues from the last commits of its packs. A trial without a batch was
drawn, and its worker ended before it wrote the batch.

The number of takeovers is limited. The batch counts the workers that started it (`starts`). If STARTS_WITHOUT_PROGRESS
workers in a row ended without a new commit or rung, its trials fail, with the reason.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from scorer_core.identity import digest
from scorer_core.support.errors import RecordError, reason
from scorer_core.support.files import replace_file
from scorer_core.support.secrets import mask
from sweeps import old_names, trials
from sweeps.batches import Batch
from sweeps.errors import DefinitionError
from sweeps.reading import with_checksum
from sweeps.samplers import make_sampler
from sweeps.search import Search, Settings, dump, load
from sweeps.storage import STORAGE_ERRORS, Lock, StorageError, as_storage_error, open_storage, storage_location

ASKING_PATIENCE_SECONDS = 900.0  # hundreds of workers that start at the same time draw one after the other
STARTS_WITHOUT_PROGRESS = 3  # workers in a row that ended at the same place
BOUND_TO = "scorer"  # the study's attribute with the definition and the version of Optuna


class Study:
    """The study of the search in `folder`, created if there is none."""

    def __init__(self, search: Search, folder: Path):
        """Open or create the study.

        Raises:
            StorageError: if its storage cannot be used.
            DefinitionError: if it was created with another definition, and then nothing is changed.
        """
        self.search, self.folder = search, folder
        self._failed_to_draw = ""  # why the sampler drew no point the last time
        self._finished: dict[int, dict[str, Any]] = {}  # attributes of finished trials that were checked, by number
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
                    f"search {search.name}: {self.storage_location} has a study with this name that scorer did not "
                    "create. Choose another `name`."
                )
            if bound["optuna"].split(".")[0] != optuna.__version__.split(".")[0]:
                raise DefinitionError(
                    f"search {search.name}: the study in {self.storage_location} was created with Optuna "
                    f"{bound['optuna']}, this is Optuna {optuna.__version__}"
                )
            self._refuse_another(bound["definition"], self.storage_location)
            content = dump(search)
            if not frozen.exists() or frozen.read_bytes() not in (with_checksum(content), content.encode()):
                replace_file(frozen, with_checksum(content))

    @property
    def storage_location(self) -> str:
        """The journal file, or the database without its password: a form that may be shown."""
        return storage_location(self.folder)

    def _refuse_another(self, there: Mapping[str, Any], place: str) -> None:
        here = self.search.identity
        for key in here:
            if here[key] != there.get(key):
                raise DefinitionError(
                    f"search {self.search.name}: {place} has a different definition "
                    f"({old_names.SEARCH.get(key, key)}: {_short(there.get(key))}, now {_short(here[key])}). "
                    "Choose another `name`."
                )

    # --- claiming ---

    def claim(self, at_most: int) -> Batch | None:
        """A batch of trials for this worker: one of a worker that ended, else up to `at_most` new trials; None if done.

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
                    continue  # another worker trains it
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
            left = self.search.trials_at_most - self._started()
            for _ in range(min(at_most - len(points), left)):
                points |= self._ask_new()
            if self._failed_to_draw and not points:
                raise RecordError(self._failed_to_draw)
            return self._new_batch(points) if points else None

    def _take_over(self, batch: Batch, trial: FrozenTrial, orphans: list[FrozenTrial]) -> bool:
        """Continue the batch of a worker that ended; False if the trial is not in it, or its trials now fail."""
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
        """How to replace `failed` trials: a failed trial is never retried."""
        return f"Fix the cause, then search again with --trials {self.search.trials + failed} to replace them"

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
        """The point of a trial whose worker ended while it drew the point; {} if several workers did."""
        asked = trials.attributes(left).get(trials.ASKED_AGAIN, 0)
        if asked == STARTS_WITHOUT_PROGRESS:
            why = f"{asked} workers in a row ended while sampler {self.search.sampler} drew its point"
            self.fail([left.number], f"{why}. {self.how_to_retry(1)}")
            return {}
        self.note(left.number, {trials.ASKED_AGAIN: asked + 1})
        try:
            return self._draw(left.number, left._trial_id)
        except RecordError:
            self.note(left.number, {trials.ASKED_AGAIN: asked})
            raise

    def _draw(self, number: int, trial_id: int) -> dict[int, Settings]:
        """The point of a trial, by its number; {} if the sampler raises an exception, which fails the trial.

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

    # --- reading ---

    def trials(self) -> list[FrozenTrial]:
        """All trials, in the order of their numbers.

        Raises:
            StorageError: if the storage cannot be used, or the attributes of a trial are damaged.
        """
        with as_storage_error(self.storage_location):
            found = self.optuna.get_trials(deepcopy=False)
        for trial in found:
            if trial.number in self._finished:  # it does not change any more
                continue
            if fault := trials.fault(trial, self.search):
                raise StorageError(f"storage {self.storage_location}: damaged: trial {trial.number}: {fault}")
            if trial.state.is_finished():
                self._finished[trial.number] = trials.attributes(trial)
        return found

    def _started(self) -> int:
        return sum(trial.state != TrialState.WAITING for trial in self.optuna.get_trials(deepcopy=False))

    def _is_running(self, number: int) -> bool:
        return self.optuna._storage.get_trial(self._id(number)).state == TrialState.RUNNING

    def trials_left(self) -> int:
        """The number of trials that are not finished, the running ones among them."""
        return self.search.trials_at_most - sum(trial.state.is_finished() for trial in self.trials())

    def failures(self) -> dict[str, list[int]]:
        """The numbers of the failed trials, by reason."""
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
        """Run ids of complete trials, each with the pack that has its metrics: an equal point needs no training."""
        return {
            run_id: pack
            for trial in self.trials()
            if trial.state == TrialState.COMPLETE
            for run_id, pack in trial.user_attrs.get("runs", {}).items()
        }

    def rung_scores(self, rung: int) -> dict[int, np.ndarray]:
        """Scores of every trial that has reached this rung, by trial number.

        Each has `num_runs` values in the order of `Search.runs`, NaN for a run without a score.
        """
        key = trials.rung_scores_key(rung)
        of_trials = {
            trial.number: self._finished.get(trial.number) or trials.attributes(trial) for trial in self.trials()
        }
        return {number: np.array(found[key], float) for number, found in of_trials.items() if key in found}

    # --- writing ---

    def note(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Attach attributes to a running trial; a finished trial is left as it is."""
        with as_storage_error(self.storage_location):
            storage, trial_id = self.optuna._storage, self._id(number)
            if not storage.get_trial(trial_id).state.is_finished():
                for key, value in attributes.items():
                    storage.set_trial_user_attr(trial_id, key, value)

    def report(self, number: int, value: float, step: int) -> None:
        """Record an intermediate value, which Optuna's dashboard shows; a finished trial is left as it is.

        Args:
            number: of the trial.
            value: the IQM of the scores at this step.
            step: environment steps.
        """
        with as_storage_error(self.storage_location):
            storage, trial_id = self.optuna._storage, self._id(number)
            if not storage.get_trial(trial_id).state.is_finished():
                storage.set_trial_intermediate_value(trial_id, step, value)

    def fail(self, numbers: Iterable[int], why: str) -> None:
        """End trials as failed, for a reason of one line; finished trials are left as they are."""
        for number in numbers:
            self.note(number, {"error": why})
            self.tell(number, TrialState.FAIL)

    def tell(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        """End a trial; a finished trial is left as it is."""
        with as_storage_error(self.storage_location):
            self.optuna.sampler = RandomSampler()  # does nothing after a trial; GridSampler would stop the process
            self.optuna.tell(number, values, state, skip_if_finished=True)

    def _id(self, number: int) -> int:
        return self.optuna._storage.get_trial_id_from_study_id_trial_number(self.optuna._study_id, number)


def one_line_reason(error: BaseException) -> str:
    """An exception in one line; its type is left out where the message is written for a user."""
    return mask(reason(error).removeprefix("DefinitionError: "))[:300]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({digest(value)[:6]})"
