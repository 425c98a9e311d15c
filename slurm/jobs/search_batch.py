"""Train, score and report to Optuna one batch of trials, from rung to rung. A failed trial does not affect others.

If the training of a pack raises an exception, the pack is divided: by trial, or in halves if memory was short. Each
part continues from the last commit. If a pack cannot be divided, its trials fail with the reason.
"""

import errno
import gc
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from optuna.trial import TrialState

from scorer_core.config import RunConfig
from scorer_core.records import PackFolder
from scorer_core.support.errors import MovedError, RecordError
from slurm.jobs.policy import is_out_of_memory
from sweeps import scores
from sweeps.batches import Batch
from sweeps.errors import DefinitionError
from sweeps.layout import by_shape, even
from sweeps.plan import worth_compiling
from sweeps.pruning import to_prune
from sweeps.storage import StorageError
from sweeps.study import Study, one_line_reason
from sweeps.trials import PRUNED_AT_STEP, RUN_IDS, rung_scores_key

ENDED = ("done", "diverged")
POLL_SECONDS = 0.2
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}
OUTPUTS = DISK | {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE}  # only for records, not in environments

log = logging.getLogger("scorer")


class Trainer(Protocol):
    """Trains packs."""

    def train(self, folder: PackFolder, until: int | None) -> bool:
        """Train from the last commit to the end, or until the first vector step from `until` on; True at the end."""
        ...

    def split(self, old: PackFolder, new: PackFolder) -> None:
        """Give `new`, which has some runs of `old`, the last commit of `old`."""
        ...


class StopRequestedError(Exception):
    """The worker was asked to stop; everything is committed."""


def is_not_the_trials(error: BaseException) -> bool:
    """Is the cause the storage, the disk or the device? Then this worker can train no trial."""
    if isinstance(error, StorageError | StopRequestedError | MovedError):
        return True
    if isinstance(error, RecordError):
        return isinstance(error.__cause__, OSError) and error.__cause__.errno in OUTPUTS
    if isinstance(error, OSError):
        return error.errno in DISK
    return "CUDA error" in str(error) and not is_out_of_memory(error)


class BatchTraining:
    """Trains the trials of a batch. A trial is alive until it fails or is pruned."""

    def __init__(
        self, study: Study, batch: Batch, trainer: Trainer, lanes: int, should_stop: Callable[[], bool] = bool
    ):
        self._study, self._batch, self._trainer, self._should_stop = study, batch, trainer, should_stop
        self._lanes, self._packs = lanes, study.folder / "packs"
        self._finished = study.finished_runs()
        self._runs: dict[int, list[RunConfig]] = {}
        self._alive = set(batch.points)
        for number, point in batch.points.items():
            with self._failing([number]):
                self._runs[number] = study.search.runs(point)
        self._alive -= {trial.number for trial in study.trials() if trial.state == TrialState.FAIL}
        self._by_id = {config.run_id: config for configs in self._runs.values() for config in configs}
        self._folders: list[PackFolder] = []

    def run(self) -> None:
        """Train, prune and report all trials of the batch, from the last commits.

        Raises:
            StopRequestedError: if the worker is asked to stop.
            Exception: if the cause is not a trial, see `is_not_the_trials`.
        """
        batch = self._batch
        self._make_packs()
        self._keep_alive("failed")
        for number in self._alive:
            self._study.note(number, {RUN_IDS: [config.run_id for config in self._runs[number]]})
        for rung, step in enumerate(self._study.search.rung_steps()):
            if rung == len(batch.decisions):
                self._train_all(step)
                batch.decisions.append({"step": step, "pruned": self._decide(rung)})
                batch.write()
                self._keep_alive("failed")
            pruned = self._alive & set(batch.decisions[rung]["pruned"])
            self._alive -= pruned
            self._keep_alive("pruned")
            for number in sorted(pruned):
                self._study.note(number, {PRUNED_AT_STEP: step})
                self._study.tell(number, TrialState.PRUNED)
        self._train_all(None)
        for number in sorted(self._alive):
            with self._failing([number]):
                self._report(number)

    # --- failures ---

    @contextmanager
    def _failing(self, numbers: Iterable[int]) -> Iterator[None]:
        """An exception within this context fails these trials, unless its cause is not a trial."""
        try:
            yield
        except Exception as error:
            if is_not_the_trials(error):
                raise
            self._fail(numbers, error)

    def _fail(self, numbers: Iterable[int], error: Exception) -> None:
        numbers, why = sorted(numbers), one_line_reason(error)
        expected = isinstance(error, RecordError | DefinitionError)
        log.error("trials %s failed: %s", ", ".join(map(str, numbers)), why, exc_info=None if expected else error)
        self._study.fail(numbers, why)
        self._alive -= set(numbers)

    # --- packs ---

    def _make_packs(self) -> None:
        """Take the packs of the previous worker, or make new packs of the runs that no trial has finished."""
        batch = self._batch
        if not batch.packs or not {run_id for pack in batch.packs for run_id in pack} <= self._by_id.keys():
            needed = {c.run_id: c for number in sorted(self._alive) for c in self._runs[number]}
            missing = [config for run_id, config in needed.items() if run_id not in self._finished]
            batch.packs = []
            for alike in by_shape(missing):
                rest = iter(config.run_id for config in alike)
                batch.packs += [list(itertools.islice(rest, size)) for size in even(len(alike), self._lanes)]
            batch.write()
        self._folders = [self._folder(pack) for pack in batch.packs]

    def _folder(self, run_ids: Sequence[str]) -> PackFolder:
        configs = [self._by_id[run_id] for run_id in run_ids]
        return PackFolder.create(self._packs, configs, worth_compiling(configs[0], "auto"))

    def _replace_packs(self, folders: list[PackFolder]) -> None:
        self._folders = folders
        self._batch.packs = [folder.run_ids() for folder in folders]
        self._batch.write()

    def _runs_of_packs(self) -> Iterable[tuple[PackFolder, list[str]]]:
        return zip(self._folders, self._batch.packs, strict=True)

    def _trials_of(self, run_ids: Iterable[str]) -> list[int]:
        """The trials alive that need one of these runs."""
        wanted = set(run_ids)
        return sorted(n for n in self._alive if any(config.run_id in wanted for config in self._runs[n]))

    def _train_all(self, until: int | None) -> None:
        """Train every pack up to a step; a pack that raises an exception is divided."""
        trained = set[str]()
        while waiting := [folder for folder in self._folders if folder.pack_id not in trained]:
            failure = self._try_to_train(waiting[0], until)
            if failure is None:
                trained.add(waiting[0].pack_id)
            else:
                self._divide(waiting[0], failure)

    def _try_to_train(self, folder: PackFolder, until: int | None) -> Exception | None:
        """Train a pack; the exception, if any, without its traceback, which refers to the memory of the pack."""
        try:
            self._train(folder, until)
        except Exception as error:
            if is_not_the_trials(error):
                raise
            log.warning("pack %s: %s", folder.pack_id, one_line_reason(error), exc_info=error)
            return error.with_traceback(None)
        return None

    def _divide(self, folder: PackFolder, failure: Exception) -> None:
        """Replace `folder` by its parts; if it cannot be divided, its trials fail."""
        gc.collect()  # memory that the parts need
        run_ids = folder.run_ids()
        if is_out_of_memory(failure) and len(run_ids) > 1:
            middle = (len(run_ids) + 1) // 2
            parts = [run_ids[:middle], run_ids[middle:]]
        else:
            parts = self._by_trial(run_ids)
        if len(parts) < 2:
            self._fail(self._trials_of(run_ids), failure)
        else:
            log.warning("pack %s is divided into %d packs", folder.pack_id, len(parts))
            place, divided = self._folders.index(folder), self._parted(folder, parts)
            self._replace_packs([*self._folders[:place], *divided, *self._folders[place + 1 :]])
            self._close(folder, dict.fromkeys(run_ids, "divided"))
        self._keep_alive("failed")

    def _by_trial(self, run_ids: Sequence[str]) -> list[list[str]]:
        """Each trial's runs; a run of several trials is in the part of the first."""
        left, parts = dict.fromkeys(run_ids), []
        for number in sorted(self._alive):
            part = [config.run_id for config in self._runs[number] if config.run_id in left]
            left = {run_id: None for run_id in left if run_id not in part}
            parts += [part] if part else []
        return parts

    def _keep_alive(self, status: str) -> None:
        """Move the runs of trials that are alive to new packs, and close the others with `status`."""
        alive = set(self._alive)
        needed = {config.run_id for number in alive for config in self._runs[number]}
        kept, left = [], []
        for folder in self._folders:
            run_ids = folder.run_ids()
            staying = [run_id for run_id in run_ids if run_id in needed]
            if len(staying) == len(run_ids) or (staying and _is_finished(folder)):
                kept.append(folder)
                continue
            kept += self._parted(folder, [staying] if staying else [])
            left.append(folder)
        if left:
            self._replace_packs(kept)
        for folder in left:
            self._close(folder, {run_id: status for run_id in folder.run_ids() if run_id not in needed})
        if self._alive != alive:  # making a part has failed
            self._keep_alive("failed")

    def _parted(self, folder: PackFolder, parts: list[list[str]]) -> list[PackFolder]:
        """Packs of these runs of `folder`, each with its last commit."""
        made = []
        for part in parts:
            with self._failing(self._trials_of(part)):
                new = self._folder(part)
                with new.lock() as held:  # otherwise another batch trains these runs
                    if held and not _is_finished(new):
                        new.reopen()
                        if new.last_commit() is None and folder.last_commit() is not None:
                            self._trainer.split(folder, new)
                made.append(new)
        return made

    def _close(self, folder: PackFolder, statuses: dict[str, str]) -> None:
        """Finish this pack, unless another batch trains it."""
        with folder.lock() as held:
            if held and not folder.done():
                folder.finish({run_id: {"status": status} for run_id, status in statuses.items()})

    def _train(self, folder: PackFolder, until: int | None) -> None:
        """Train a pack up to a step. If another batch trains the same runs, wait for it."""
        waiting = False
        while True:
            with folder.lock() as held:
                if held:
                    if not _is_finished(folder):
                        folder.reopen()
                        if not self._trainer.train(folder, until) and self._should_stop():
                            raise StopRequestedError
                    return
            if self._should_stop():
                raise StopRequestedError
            if not waiting:
                log.info("pack %s: another worker trains it; waiting until that worker stops", folder.pack_id)
                waiting = True
            time.sleep(POLL_SECONDS)

    # --- scores ---

    def _curves(self, number: int) -> dict[str, scores.Curve]:
        run_ids = {config.run_id for config in self._runs[number]}
        here = [folder for folder, theirs in self._runs_of_packs() if not run_ids.isdisjoint(theirs)]
        elsewhere = {self._finished[run_id] for run_id in run_ids if run_id in self._finished}
        return scores.read_curves([*here, *(PackFolder(self._packs / pack) for pack in sorted(elsewhere))], run_ids)

    def _decide(self, rung: int) -> list[int]:
        """The trials to prune at this rung. The scores so far are stored for later trials."""
        study, search = self._study, self._study.search
        step = search.rung_steps()[rung]
        for number in sorted(self._alive):
            with self._failing([number]):
                here = scores.blocks(search, self._runs[number], self._curves(number), step)[0]
                study.note(number, {rung_scores_key(rung): _with_null(here)})
                if np.isfinite(value := float(scores.iqm(here))):
                    study.report(number, value, step)
        return sorted(to_prune(search, study.rung_scores(rung), self._alive))

    def _report(self, number: int) -> None:
        study, configs, curves = self._study, self._runs[number], self._curves(number)
        found = scores.blocks(study.search, configs, curves, configs[0].total_steps)
        if not np.isfinite(found).all():
            raise RecordError(scores.why_no_score(configs, curves, found))
        here = {run_id: folder.pack_id for folder, run_ids in self._runs_of_packs() for run_id in run_ids}
        packs = {config.run_id: here.get(config.run_id) or self._finished[config.run_id] for config in configs}
        diverged = sum(
            PackFolder(self._packs / pack).done().get(run_id, {}).get("status") == "diverged"
            for run_id, pack in packs.items()
        )
        study.note(number, {"scores": found.tolist(), "runs": packs, "diverged": diverged})
        study.tell(number, TrialState.COMPLETE, [float(value) for value in scores.iqm(found)])


def _is_finished(folder: PackFolder) -> bool:
    done = folder.done()
    return all(done.get(run_id, {}).get("status") in ENDED for run_id in folder.run_ids())


def _with_null(values: np.ndarray) -> list[float | None]:
    """JSON has no NaN."""
    return [float(value) if np.isfinite(value) else None for value in values]
