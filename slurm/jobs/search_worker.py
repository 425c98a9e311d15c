"""One worker of a search. It claims, trains and reports trials: `python -m slurm.jobs.search_worker SEARCH_FOLDER`.

Any number of workers share a folder and a storage, on one machine or many. Exit codes: 0 no trial is left, 75 stopped
after a commit (start it again), 1 failed, 78 the device cannot be used.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two threads per pack are slower than two packs

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from optuna.trial import TrialState

from scorer_core.devices import Device, DeviceError, use_device
from scorer_core.provenance import provenance
from scorer_core.records import PackFolder
from scorer_core.support import streams
from scorer_core.support.errors import RecordError
from scorer_core.support.files import write_json
from slurm.jobs.search_batch import BatchTraining, StopRequestedError, Trainer, is_not_the_trials
from slurm.jobs.train_pack import FAILED, FINISHED, INTERRUPTED, NO_DEVICE
from slurm.submissions.snapshot import check_code
from sweeps.batches import Batch
from sweeps.errors import DefinitionError
from sweeps.layout import LANES_OF_A_SEARCH
from sweeps.studies import study_in
from sweeps.study import Study, one_line_reason

FAILED_TRIALS_IN_A_ROW = 4  # after these, the next trials would probably fail too


class TorchTrainer:
    """Trains packs with PyTorch on one device."""

    def __init__(self, device: Device, commit_seconds: float, should_stop: Callable[[], bool]):
        self._device, self._commit_seconds, self._should_stop = device, commit_seconds, should_stop

    def train(self, folder: PackFolder, until: int | None) -> bool:
        from scorer_core.train import train

        place = folder.new_attempt()
        record = provenance(self._device.name, self._device.gpu, folder.sources())
        write_json(place / "provenance.json", record)
        attempt = int(place.name)
        return train(
            folder, self._device.torch_device, self._commit_seconds, self._should_stop, until,
            attempt=attempt, device_name=self._device.name,
        )  # fmt: skip

    def split(self, old: PackFolder, new: PackFolder) -> None:
        from scorer_core.train import split_pack

        split_pack(old, new, self._device.torch_device)


class Worker:
    """Trains `trials_per_batch` trials at a time, in packs of at most `lanes` runs."""

    def __init__(
        self,
        study: Study,
        trainer: Trainer,
        trials_per_batch: int,
        lanes: int = LANES_OF_A_SEARCH,
        should_stop: Callable[[], bool] = bool,
    ):
        self._study, self._trainer, self._should_stop = study, trainer, should_stop
        self._trials_per_batch, self._lanes = trials_per_batch, lanes

    def work(self) -> int:
        """Claim, train and report trials until none is left; the exit code.

        Raises:
            RecordError, OSError: if the storage or the disk cannot be used; the trials stay with their batch.
        """
        failed_in_a_row = 0
        while not self._should_stop():
            batch = self._study.claim(self._trials_per_batch)
            if batch is None:
                return FINISHED
            log.info("trials %s%s", ", ".join(map(str, batch.points)), ", taken over" if batch.adopted else "")
            try:
                self._train(batch)
            except StopRequestedError:
                batch.forget_start()
                return INTERRUPTED
            except (RecordError, OSError):  # the storage or the disk: the next worker continues these trials
                batch.forget_start()
                raise
            except Exception as error:  # perhaps the device: these trials get a few more starts
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
    """Work on the search named on the command line; the exit code."""
    streams.protect()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of the search")
    parser.add_argument("--trials-per-batch", type=int, default=1, help="trials claimed at a time")
    parser.add_argument("--lanes", type=int, default=LANES_OF_A_SEARCH, help="maximum runs per pack")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto: a GPU if there is one (default)")
    parser.add_argument("--commit-seconds", type=float, default=300.0, help="seconds between checkpoints")
    parser.add_argument("--parent", type=int, help="commit and stop if this process ends")
    arguments = parser.parse_args()
    check_code()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    stop_signals = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, lambda number, _: stop_signals.append(number))

    def should_stop() -> bool:
        return bool(stop_signals) or (arguments.parent is not None and os.getppid() != arguments.parent)

    try:
        study = study_in(arguments.folder)
        device = use_device(arguments.device, study.search.tasks)  # before a trial is claimed, so that none fails
        trainer = TorchTrainer(device, arguments.commit_seconds, should_stop)
        return Worker(study, trainer, arguments.trials_per_batch, arguments.lanes, should_stop).work()
    except DeviceError as error:
        log.error("%s", error)
        return NO_DEVICE
    except (RecordError, DefinitionError, OSError) as error:
        log.error("%s", error)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
