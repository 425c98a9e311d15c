"""One worker of a search: claims trials, trains their packs, tells; `python -m slurm.search_worker SEARCH_FOLDER`.

Any number of them share a folder and a storage, on one machine or many. The exit code is what a scheduler reads: 0 no
trial is left to claim, 75 stopped with everything committed (start it again), 1 failed.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two threads a pack are slower than two packs

import argparse
import itertools
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from optuna.trial import TrialState

from scorer_core.config import RunConfig
from scorer_core.provenance import provenance
from scorer_core.records import PackFolder, RecordError, write_json
from slurm.job import FAILED, FINISHED, INTERRUPTED
from sweeps import scores
from sweeps.definition import DefinitionError
from sweeps.layout import by_shape, even
from sweeps.plan import worth_compiling
from sweeps.pruning import to_prune
from sweeps.search import LANES
from sweeps.storage import StorageError
from sweeps.study import Batch, Study, rung_key, study_in

FAILED_BATCHES_IN_A_ROW = 2  # then it is not the trials' fault
ENDED = ("done", "diverged")


class Trainer(Protocol):
    """What trains packs."""

    def train(self, folder: PackFolder, until: int | None) -> bool:
        """Train from the last commit to the end, or until the first vector step from `until` on; True at the end."""
        ...

    def part(self, old: PackFolder, new: PackFolder) -> None:
        """Let `new`, of some of the runs of `old`, go on from the last commit of `old`."""
        ...


class TorchTrainer:
    def __init__(self, device: str, commit_seconds: float, should_stop: Callable[[], bool]):
        self._name, self._commit_seconds, self._should_stop = device, commit_seconds, should_stop

    def train(self, folder: PackFolder, until: int | None) -> bool:
        from scorer_core.train import train

        place = folder.new_attempt()
        write_json(place / "provenance.json", provenance(str(self._device)))
        attempt = int(place.name)
        return train(folder, self._device, self._commit_seconds, self._should_stop, until, attempt=attempt)

    def part(self, old: PackFolder, new: PackFolder) -> None:
        from scorer_core.train import part_pack

        part_pack(old, new, self._device)

    @property
    def _device(self):
        import torch

        torch.set_num_threads(1)
        name = self._name
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name.startswith("cuda") and not torch.cuda.is_available():
            raise RecordError(f"--device {name}: PyTorch finds no CUDA device here")
        return torch.device(name)


class ToldToStopError(Exception):
    """Told to stop; everything is committed."""


class Worker:
    """Trains `together` trials at a time, in packs of at most `lanes` runs."""

    def __init__(
        self,
        study: Study,
        trainer: Trainer,
        together: int,
        lanes: int = LANES,
        should_stop: Callable[[], bool] = bool,
    ):
        self._study, self._trainer, self._should_stop = study, trainer, should_stop
        self._together, self._lanes = together, lanes
        self._packs = study.folder / "packs"

    def work(self) -> int:
        """Claim, train and tell until no trial is left to claim; the exit code."""
        failed = 0
        while not self._should_stop():
            batch = self._study.claim(self._together)
            if batch is None:
                return FINISHED
            numbers = ", ".join(map(str, batch.points))
            log.info("trials %s%s", numbers, ", taken over" if batch.adopted else "")
            try:
                self._run(batch)
                failed = 0
            except ToldToStopError:
                return INTERRUPTED
            except StorageError:
                raise  # which is not the trials' fault: they stay with their batch
            except (RecordError, DefinitionError, RuntimeError, MemoryError) as error:
                why = " ".join(str(error).split())[:300] or type(error).__name__
                log.error("trials %s failed: %s", numbers, why)
                for number in batch.points:
                    self._study.note(number, {"error": why})
                    self._study.tell(number, TrialState.FAIL)
                failed += 1
                if failed == FAILED_BATCHES_IN_A_ROW:
                    return FAILED
            finally:
                batch.release()
        return INTERRUPTED

    def _run(self, batch: Batch) -> None:
        """Train a batch from rung to rung; it goes on where its last worker had committed."""
        study, search = self._study, self._study.search
        runs = {number: search.runs(point) for number, point in batch.points.items()}
        finished = study.finished_runs()
        if not batch.packs:
            missing = {c.run_id: c for configs in runs.values() for c in configs if c.run_id not in finished}
            for alike in by_shape(list(missing.values())):
                rest = iter(config.run_id for config in alike)
                batch.packs += [list(itertools.islice(rest, size)) for size in even(len(alike), self._lanes)]
            batch.write()
        for number, configs in runs.items():
            study.note(number, {"run ids": [config.run_id for config in configs]})
        by_id = {config.run_id: config for configs in runs.values() for config in configs}
        folders = [self._folder([by_id[run_id] for run_id in pack]) for pack in batch.packs]
        elsewhere = [PackFolder(self._packs / pack) for pack in {finished.get(run_id) for run_id in by_id} if pack]
        alive = set(runs)
        for rung, step in enumerate(search.rung_steps()):
            if rung == len(batch.decisions):
                for folder in folders:
                    self._train(folder, step)
                batch.decisions.append({"step": step, "pruned": self._decide(runs, alive, folders + elsewhere, rung)})
                batch.write()
            pruned = set(batch.decisions[rung]["pruned"])
            alive -= pruned
            folders = self._part(folders, {c.run_id for number in alive for c in runs[number]}, by_id)
            for number in sorted(pruned):
                study.note(number, {"stopped at": step})
                study.tell(number, TrialState.PRUNED)
        for folder in folders:
            self._train(folder, None)
        curves = scores.read_curves(folders + elsewhere, by_id)
        home = finished | {run_id: folder.pack_id for folder in folders for run_id in folder.run_ids()}
        for number in sorted(alive):
            self._tell(number, runs[number], curves, home)

    def _folder(self, configs: Sequence[RunConfig]) -> PackFolder:
        return PackFolder.create(self._packs, configs, worth_compiling(configs[0]))

    def _train(self, folder: PackFolder, until: int | None) -> None:
        """Train a pack up to a step; another batch may hold the same runs, and then its work is waited for."""
        while True:
            with folder.lock() as held:
                if held:
                    done = folder.done()
                    if all(done.get(run_id, {}).get("status") in ENDED for run_id in folder.run_ids()):
                        return
                    finished = self._trainer.train(folder, until)
                    if not finished and self._should_stop():
                        raise ToldToStopError
                    return
            if self._should_stop():
                raise ToldToStopError
            time.sleep(0.2)

    def _decide(
        self, runs: dict[int, list[RunConfig]], alive: set[int], folders: list[PackFolder], rung: int
    ) -> list[int]:
        """The trials that end at this rung; what they have scored so far is noted for the trials to come."""
        study, search = self._study, self._study.search
        step = search.rung_steps()[rung]
        curves = scores.read_curves(folders, {c.run_id for number in alive for c in runs[number]})
        for number in sorted(alive):
            here = scores.blocks(search, runs[number], curves, step)[0]
            study.note(number, {rung_key(rung): here.tolist()})
            if np.isfinite(value := float(scores.iqm(here))):
                study.report(number, value, step)
        return sorted(to_prune(search, study.rung_scores(rung), alive))

    def _part(self, folders: list[PackFolder], alive: set[str], by_id: dict[str, RunConfig]) -> list[PackFolder]:
        """Packs of the survivors alone, each going on from the commit of the pack it came from."""
        survivors = []
        for folder in folders:
            kept = [run_id for run_id in folder.run_ids() if run_id in alive]
            if len(kept) == len(folder.run_ids()):
                survivors.append(folder)
                continue
            if kept:
                new = self._folder([by_id[run_id] for run_id in kept])
                with new.lock() as held:  # else another batch with these runs is at it
                    if held and not new.done() and new.last_commit() is None:
                        self._trainer.part(folder, new)
                survivors.append(new)
            if not folder.done():
                folder.finish({run_id: {"status": "pruned"} for run_id in folder.run_ids() if run_id not in alive})
        return survivors

    def _tell(
        self, number: int, configs: list[RunConfig], curves: dict[str, scores.Curve], home: dict[str, str]
    ) -> None:
        found = scores.blocks(self._study.search, configs, curves, configs[0].total_steps)
        values = [float(value) for value in scores.iqm(found)]
        packs = {config.run_id: home[config.run_id] for config in configs}
        diverged = sum(
            PackFolder(self._packs / pack).done().get(run_id, {}).get("status") == "diverged"
            for run_id, pack in packs.items()
        )
        self._study.note(number, {"scores": found.tolist(), "runs": packs, "diverged": diverged})
        if np.isfinite(values).all():
            self._study.tell(number, TrialState.COMPLETE, values)
        else:
            self._study.note(number, {"error": "a run of it logged nothing"})
            self._study.tell(number, TrialState.FAIL)


log = logging.getLogger("scorer")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--together", type=int, default=1, help="trials asked for at once")
    parser.add_argument("--lanes", type=int, default=LANES, help="runs trained together, at most")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto: a GPU if there is one")
    parser.add_argument("--commit-seconds", type=float, default=300.0)
    parser.add_argument("--parent", type=int, help="stop, committing, when this process is gone")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    told_to_stop = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, lambda number, _: told_to_stop.append(number))

    def should_stop() -> bool:
        return bool(told_to_stop) or (arguments.parent is not None and os.getppid() != arguments.parent)

    try:
        trainer = TorchTrainer(arguments.device, arguments.commit_seconds, should_stop)
        study = study_in(arguments.folder)
        return Worker(study, trainer, arguments.together, arguments.lanes, should_stop).work()
    except (RecordError, DefinitionError) as error:
        log.error("%s", error)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
