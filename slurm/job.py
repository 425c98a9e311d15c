"""What a job executes: one attempt at one pack, `python -m slurm.job PACK_FOLDER`.

Its exit code is what a scheduler reads: 0 finished, 75 stopped with everything committed (start it again), 1 failed.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two threads a pack are slower than two packs

import argparse
import logging
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from scorer_core.records import PackFolder, RecordError, provenance, write_json

FINISHED, FAILED, INTERRUPTED = 0, 1, 75
LOCK_PATIENCE_SECONDS = 15.0  # a cut-off process may still be writing its last commit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto: a GPU if there is one")
    parser.add_argument("--commit-seconds", type=float, default=300.0)
    parser.add_argument("--parent", type=int, help="stop, committing, when this process is gone")
    arguments = parser.parse_args()
    folder = PackFolder(arguments.folder)
    started = time.monotonic()
    while True:
        with folder.lock() as held:
            if held:
                return FINISHED if folder.done() else attempt(folder, arguments)
        if time.monotonic() - started > LOCK_PATIENCE_SECONDS:
            print(f"{folder.path}: another process is training this pack", file=sys.stderr)
            return FAILED
        time.sleep(0.5)


def attempt(folder: PackFolder, arguments: argparse.Namespace) -> int:
    """One start, with its own logs; what it prints and how it fails is kept beside its provenance."""
    place = folder.new_attempt()
    told_to_stop = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, lambda number, _: told_to_stop.append(number))

    def should_stop() -> bool:
        return bool(told_to_stop) or (arguments.parent is not None and os.getppid() != arguments.parent)

    with (place / "stdout.log").open("a", buffering=1) as out, (place / "stderr.log").open("a", buffering=1) as err:
        os.dup2(out.fileno(), 1)  # by descriptor, so that what libraries print, and a crash's last words, are kept too
        os.dup2(err.fileno(), 2)
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
        state: dict[str, Any] = {"attempt": int(place.name)}
        try:
            folder.write_state(phase="starting", **state)
            finished = _train(folder, place, arguments, should_stop, state)
        except Exception as error:
            traceback.print_exc()
            message = str(error) if isinstance(error, RecordError) else f"{type(error).__name__}: {error}"
            _say_failed(folder, message.splitlines()[0] if message else "unknown", state)
            return FAILED
        return FINISHED if finished else INTERRUPTED


def _train(folder: PackFolder, place: Path, arguments: argparse.Namespace, should_stop: Any, state: Any) -> bool:
    import torch  # after the lock and the logs, so that a failing import is recorded too

    from scorer_core.train import train

    name = arguments.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RecordError(f"--device {name}: PyTorch finds no CUDA device here")
    torch.set_num_threads(1)
    label = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    write_json(place / "provenance.json", provenance(label))
    return train(folder, device, arguments.commit_seconds, should_stop, **state)


def _say_failed(folder: PackFolder, message: str, state: dict[str, Any]) -> None:
    last = {}
    try:
        last = {key: folder.state()[key] for key in ("step", "total_steps", "lanes") if key in folder.state()}
        folder.write_state(phase="failed", error=message, **last, **state)
    except RecordError:
        print(f"the failure could not be recorded in {folder.path}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
