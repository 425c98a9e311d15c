"""What a job executes: one attempt at one pack, `python -m slurm.jobs.train_pack PACK_FOLDER`.

Its exit code is what a scheduler reads: 0 finished, 75 stopped with everything committed (start it again), 1 failed.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two threads a pack are slower than two packs

import argparse
import io
import logging
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from scorer_core.provenance import provenance
from scorer_core.records import MovedError, PackFolder, RecordError, open_log, write_json
from scorer_core.support import streams
from scorer_core.support.errors import reason
from scorer_core.support.secrets import mask
from scorer_core.versions import upgrades
from slurm.jobs.policy import attempt_history, halve, halves, is_out_of_memory, reason_to_stop_retrying
from slurm.submissions.snapshot import check_code

FINISHED, FAILED, INTERRUPTED = 0, 1, 75
HALVED = -1  # the pack is now two: to be started anew, in a process that holds none of the first one's memory
LOCK_PATIENCE_SECONDS = 15.0  # a cut-off process may still be writing its last commit

stop_signals: list[int] = []  # the signals that arrived; nothing else happens in a handler


def main() -> int:
    streams.protect()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto: a GPU if there is one")
    parser.add_argument("--commit-seconds", type=float, default=300.0)
    parser.add_argument("--heartbeat-seconds", type=float, default=1.0)
    parser.add_argument("--parent", type=int, help="stop, committing, when this process is gone")
    parser.add_argument("--submission", default="", help="attempts of one name share one budget")
    parser.add_argument("--max-attempts", type=int, default=sys.maxsize)
    parser.add_argument("--wait", action="store_true", help="for the pack, while another process trains it")
    parser.add_argument(
        "--record-kill", type=int, metavar="SIGNAL", help="do not train: record that an attempt was killed"
    )
    arguments = parser.parse_args()
    check_code()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, lambda number, _: stop_signals.append(number))
    folder = PackFolder(arguments.folder)
    try:
        parts = halves(folder) or [folder]
        codes = [_alone(part, arguments) if not stop_signals else INTERRUPTED for part in parts]
    except RecordError as error:
        print(error, file=sys.stderr)
        return FAILED
    if HALVED in codes and not arguments.record_kill:
        os.execv(sys.executable, [sys.executable, "-m", "slurm.jobs.train_pack", *sys.argv[1:]])
    return INTERRUPTED if {INTERRUPTED, HALVED} & set(codes) else max(codes)


def _alone(folder: PackFolder, arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    while True:
        with folder.lock() as held:
            if held:
                if folder.done():
                    return FINISHED
                return (
                    record_kill(folder, arguments.record_kill) if arguments.record_kill else attempt(folder, arguments)
                )
        if arguments.wait and _should_stop(arguments):
            return INTERRUPTED
        if not arguments.wait and time.monotonic() - started > LOCK_PATIENCE_SECONDS:
            print(f"{folder.path}: another process is training this pack", file=sys.stderr)
            return FAILED
        time.sleep(0.5)


def _should_stop(arguments: argparse.Namespace) -> bool:
    return bool(stop_signals) or (arguments.parent is not None and os.getppid() != arguments.parent)


def attempt(folder: PackFolder, arguments: argparse.Namespace) -> int:
    """One start, with its own logs; what it prints and how it fails is kept beside its provenance."""
    try:
        folder.state()
    except RecordError as error:
        print(f"{error}; it is replaced, and earlier attempts do not count against --max-attempts", file=sys.stderr)
        folder.write_state(phase="starting")
    state: dict[str, Any] = attempt_history(folder, arguments.submission) if arguments.submission else {}
    refused = reason_to_stop_retrying(folder, state["starts"], arguments.max_attempts) if state else None
    if refused:
        before = folder.state()
        kept = {key: before[key] for key in ("attempt", "submission", "starts") if key in before}
        _say_failed(folder, refused, kept)
        return FAILED
    place = folder.new_attempt()
    state["attempt"] = int(place.name)

    with open_log(place / "stdout.log") as out, open_log(place / "stderr.log") as err:
        os.dup2(out.fileno(), 1)  # by descriptor, so that what libraries print, and a crash's last words, are kept too
        os.dup2(err.fileno(), 2)
        for stream in (sys.stdout, sys.stderr):  # what an environment prints must not fail for its characters
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding="utf-8", errors="replace")
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
        try:
            folder.write_state(phase="starting", **state)
            finished = _train(folder, place, arguments, lambda: _should_stop(arguments), state)
        except KeyboardInterrupt:  # raised by the training itself: the signals only set TOLD_TO_STOP
            folder.write_state(phase="interrupted", **state)
            return INTERRUPTED
        except MovedError as error:  # there is no place to record it but this log, which moved too
            print(error, file=sys.stderr)
            return FAILED
        except BaseException as error:  # also what an environment raises to end the process
            traceback.print_exc()
            message = mask(_message(folder, error))
            if is_out_of_memory(error):
                return _after_running_out_of_memory(folder, message, state)
            _say_failed(folder, message, state)
            return FAILED
        return FINISHED if finished else INTERRUPTED


def _message(folder: PackFolder, error: BaseException) -> str:
    """Why an attempt failed, in one line that names the task or a file."""
    if isinstance(error, RecordError):
        return reason(error)
    try:
        task = folder.configs()[0].task
    except RecordError as unreadable:
        return f"{reason(error)}; {unreadable}"
    return f"{task}: {reason(error)}"


def record_kill(folder: PackFolder, number: int) -> int:
    """Record an attempt that was killed before it could speak; whether it was for its memory, the host knows."""
    state = folder.state()
    kept = {
        key: state[key] for key in ("attempt", "submission", "starts", "step", "total_steps", "lanes") if key in state
    }
    message = f"killed by {signal.Signals(number).name}"
    if number == signal.SIGKILL and _memory_was_short():
        return _after_running_out_of_memory(folder, "out of memory: killed by the host", kept)
    folder.write_state(phase="killed", error=message, **kept)
    return INTERRUPTED


def _after_running_out_of_memory(folder: PackFolder, message: str, state: dict[str, Any]) -> int:
    if halve(folder):
        print(f"{message}; going on with half the lanes", file=sys.stderr)
        return HALVED
    _say_failed(folder, f"{message}; the lanes cannot be halved again: give the job more memory", state)
    return FAILED


def _memory_was_short() -> bool:
    """Has the kernel killed a process of this job's control group for its memory?"""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controller, group = line.split(":", 2)
            place = Path("/sys/fs/cgroup") / controller / group.lstrip("/")
            for name in ("memory.events", "memory.oom_control"):  # of cgroups version 2 and 1
                if controller in ("", "memory") and (place / name).exists():
                    counts = dict(line.split() for line in (place / name).read_text(encoding="utf-8").splitlines())
                    if int(counts.get("oom_kill", 0)):
                        return True
    return False


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
    if changed := [line for line in upgrades(folder) if line.endswith(f" and {place.name}")]:
        logging.getLogger("scorer").warning("%s", changed[-1])
    beat = arguments.heartbeat_seconds
    return train(folder, device, arguments.commit_seconds, should_stop, heartbeat_seconds=beat, **state)


def _say_failed(folder: PackFolder, message: str, state: dict[str, Any]) -> None:
    last = {}
    try:
        last = {key: value for key, value in folder.state().items() if key in ("step", "total_steps", "lanes")}
        folder.write_state(phase="failed", error=message, **(last | state))
    except RecordError:
        print(f"the failure could not be recorded in {folder.path}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
