"""One worker of a search: claims trials, trains their packs, tells; `python -m slurm.jobs.search_worker SEARCH_FOLDER`.

Any number of them share a folder and a storage, on one machine or many. The exit code is what a scheduler reads: 0 no
trial is left to claim, 75 stopped with everything committed (start it again), 1 failed.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two threads a pack are slower than two packs

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from optuna.trial import TrialState

from scorer_core.provenance import provenance
from scorer_core.records import PackFolder, RecordError, write_json
from scorer_core.support import streams
from slurm.jobs.search_batch import BatchTraining, StopRequestedError, Trainer, is_not_the_trials
from slurm.jobs.train_pack import FAILED, FINISHED, INTERRUPTED
from slurm.submissions.snapshot import check_code
from sweeps.batches import Batch
from sweeps.errors import DefinitionError
from sweeps.layout import LANES_OF_A_SEARCH
from sweeps.studies import study_in
from sweeps.study import Study, one_line_reason

FAILED_TRIALS_IN_A_ROW = 4  # then the next ones would fail as well


class TorchTrainer:
    def __init__(self, device: str, commit_seconds: float, should_stop: Callable[[], bool]):
        self._name, self._commit_seconds, self._should_stop = device, commit_seconds, should_stop

    def train(self, folder: PackFolder, until: int | None) -> bool:
        from scorer_core.train import train

        place = folder.new_attempt()
        write_json(place / "provenance.json", provenance(str(self.device)))
        attempt = int(place.name)
        return train(folder, self.device, self._commit_seconds, self._should_stop, until, attempt=attempt)

    def split(self, old: PackFolder, new: PackFolder) -> None:
        from scorer_core.train import split_pack

        split_pack(old, new, self.device)

    @cached_property
    def device(self):
        """The device that packs are trained on.

        Raises:
            RecordError: if there is no such device here.
        """
        import torch

        torch.set_num_threads(1)
        name = self._name
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name.startswith("cuda") and not torch.cuda.is_available():
            raise RecordError(f"--device {name}: PyTorch finds no CUDA device here")
        try:
            return torch.device(name)
        except RuntimeError as error:
            raise RecordError(f"--device {name}: {str(error).splitlines()[0]}") from None


class Worker:
    """Trains `together` trials at a time, in packs of at most `lanes` runs."""

    def __init__(
        self,
        study: Study,
        trainer: Trainer,
        together: int,
        lanes: int = LANES_OF_A_SEARCH,
        should_stop: Callable[[], bool] = bool,
    ):
        self._study, self._trainer, self._should_stop = study, trainer, should_stop
        self._together, self._lanes = together, lanes

    def work(self) -> int:
        """Claim, train and tell until no trial is left to claim; the exit code.

        Raises:
            RecordError, OSError: if the storage or the disk cannot be used; the trials stay with their batch.
        """
        failed_in_a_row = 0
        while not self._should_stop():
            batch = self._study.claim(self._together)
            if batch is None:
                return FINISHED
            log.info("trials %s%s", ", ".join(map(str, batch.points)), ", taken over" if batch.adopted else "")
            try:
                self._train(batch)
            except StopRequestedError:
                batch.forget_start()
                return INTERRUPTED
            except (RecordError, OSError):  # the storage or the disk: the next worker goes on with these trials
                batch.forget_start()
                raise
            except Exception as error:  # the device, perhaps: these trials are tried a few times more
                batch.error = one_line_reason(error)
                batch.write()
                log.error("this worker stops: %s", batch.error, exc_info=error)
                return FAILED
            finally:
                batch.release()
            ended = [trial for trial in self._study.trials() if trial.number in batch.points]
            failed_in_a_row = failed_in_a_row + len(ended) if all(t.state == TrialState.FAIL for t in ended) else 0
            if failed_in_a_row >= FAILED_TRIALS_IN_A_ROW:
                log.error("this worker stops: the last %d trials failed", failed_in_a_row)
                return FAILED
        return INTERRUPTED

    def _train(self, batch: Batch) -> None:
        try:
            BatchTraining(self._study, batch, self._trainer, self._lanes, self._should_stop).run()
        except Exception as error:
            if is_not_the_trials(error):
                raise
            log.error("the batch failed", exc_info=error)
            self._study.fail(batch.points, one_line_reason(error))


log = logging.getLogger("scorer")


def main() -> int:
    streams.protect()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--together", type=int, default=1, help="trials asked for at once")
    parser.add_argument("--lanes", type=int, default=LANES_OF_A_SEARCH, help="runs trained together, at most")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto: a GPU if there is one")
    parser.add_argument("--commit-seconds", type=float, default=300.0)
    parser.add_argument("--parent", type=int, help="stop, committing, when this process is gone")
    arguments = parser.parse_args()
    check_code()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    told_to_stop = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, lambda number, _: told_to_stop.append(number))

    def should_stop() -> bool:
        return bool(told_to_stop) or (arguments.parent is not None and os.getppid() != arguments.parent)

    try:
        trainer = TorchTrainer(arguments.device, arguments.commit_seconds, should_stop)
        trainer.device  # noqa: B018, before any trial is claimed: a wrong device is not the trials' fault
        study = study_in(arguments.folder)
        return Worker(study, trainer, arguments.together, arguments.lanes, should_stop).work()
    except (RecordError, DefinitionError, OSError) as error:
        log.error("%s", error)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
