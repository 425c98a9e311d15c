"""One attempt to train one pack, the process of a job: `python -m slurm.jobs.train_pack PACK_FOLDER`.

Exit codes: 0 finished, 75 stopped after a commit (start it again), 1 failed, 78 the device cannot be used, 79 it failed
while the pack trained.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two threads per pack are slower than two packs

import argparse
import io
import logging
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from scorer_core import compile_cache
from scorer_core.compiler import compiler_fault
from scorer_core.devices import DeviceError, use_device
from scorer_core.plugins import interpreter
from scorer_core.provenance import provenance
from scorer_core.records import PackFolder
from scorer_core.support import streams
from scorer_core.support.errors import MovedError, RecordError, reason
from scorer_core.support.files import open_log, write_json
from scorer_core.support.secrets import mask
from scorer_core.versions import upgrades
from slurm.jobs.policy import (
    attempt_history,
    halve,
    halves,
    is_device_fault,
    is_out_of_memory,
    reason_to_stop_retrying,
)
from slurm.jobs.speed import keep_speed, process_age
from slurm.submissions.snapshot import check_code

FINISHED, FAILED, INTERRUPTED, NO_DEVICE, DEVICE_FAILED = 0, 1, 75, 78, 79
HALVED = -1  # the pack was split in two: start them in a new process, which has free memory
LOCK_PATIENCE_SECONDS = 15.0  # a stopping process may still write its last commit

stop_signals: list[int] = []  # received signals; the handler does nothing else


def options() -> argparse.ArgumentParser:
    """The options that all packs of a job have in common."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto: a GPU if there is one (default)")
    parser.add_argument("--commit-seconds", type=float, default=300.0, help="seconds between checkpoints")
    parser.add_argument("--heartbeat-seconds", type=float, default=1.0, help="seconds between heartbeats")
    parser.add_argument("--max-attempts", type=int, default=sys.maxsize, help="maximum number of starts")
    parser.add_argument("--compile-cache", type=Path, help="the folder where the sweep's jobs share compiled code")
    return parser


def main() -> int:
    """Train the pack named on the command line; the exit code."""
    arrived = process_age()
    streams.protect()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[options()]
    )
    parser.add_argument("folder", type=Path, help="the folder of the pack")
    parser.add_argument("--parent", type=int, help="commit and stop if this process ends")
    parser.add_argument("--submission", default="", help="the submission, whose attempts --max-attempts limits")
    parser.add_argument("--core-share", type=float, default=1.0, help="the part of a CPU core that this process has")
    parser.add_argument("--wait", action="store_true", help="wait while another process trains the pack")
    parser.add_argument(
        "--record-kill", type=int, metavar="SIGNAL", help="record that an attempt was killed; do not train"
    )
    arguments = parser.parse_args()
    check_code()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, lambda number, _: stop_signals.append(number))
    folder = PackFolder(arguments.folder)
    try:
        parts = halves(folder) or [folder]
        codes = [_locked(part, arguments, arrived) if not stop_signals else INTERRUPTED for part in parts]
    except RecordError as error:
        print(error, file=sys.stderr)
        return FAILED
    if HALVED in codes and not arguments.record_kill and not stop_signals:
        os.execv(sys.executable, [*interpreter(), "-m", "slurm.jobs.train_pack", *sys.argv[1:]])
    return INTERRUPTED if {INTERRUPTED, HALVED} & set(codes) else max(codes)


def _locked(folder: PackFolder, arguments: argparse.Namespace, arrived: float) -> int:
    started = time.monotonic()
    while True:
        with folder.lock() as held:
            if held:
                if folder.done():
                    return FINISHED
                if arguments.record_kill:
                    return record_kill(folder, arguments.record_kill)
                return attempt(folder, arguments, arrived)
        if arguments.wait and _should_stop(arguments):
            return INTERRUPTED
        if not arguments.wait and time.monotonic() - started > LOCK_PATIENCE_SECONDS:
            print(f"{folder.path}: another process is training this pack", file=sys.stderr)
            return FAILED
        time.sleep(0.5)


def _should_stop(arguments: argparse.Namespace) -> bool:
    return bool(stop_signals) or (arguments.parent is not None and os.getppid() != arguments.parent)


def attempt(folder: PackFolder, arguments: argparse.Namespace, arrived: float = 0.0) -> int:
    """Train `folder` in a new attempt, whose folder keeps its output, its errors and its provenance; the exit code.

    `arrived`: seconds that this process took to start.
    """
    began = time.monotonic() - arrived
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
        _record_failure(folder, refused, kept)
        return FAILED
    place = folder.new_attempt()
    state["attempt"] = int(place.name)

    with open_log(place / "stdout.log") as out, open_log(place / "stderr.log") as err:
        os.dup2(out.fileno(), 1)  # by descriptor, to keep also the output of libraries and of a crash
        os.dup2(err.fileno(), 2)
        for stream in (sys.stdout, sys.stderr):  # an environment may print any character
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding="utf-8", errors="replace")
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
        logging.getLogger("scorer").setLevel(logging.INFO)
        try:
            folder.write_state(phase="starting", **state)
            finished = _train(folder, place, arguments, lambda: _should_stop(arguments), state, began)
        except KeyboardInterrupt:  # raised by user code: signals only add to stop_signals
            folder.write_state(phase="interrupted", **state)
            return INTERRUPTED
        except MovedError as error:  # only this log, which was moved too, can record it
            print(error, file=sys.stderr)
            return FAILED
        except DeviceError as error:
            print(error, file=sys.stderr)
            _record_failure(folder, str(error), state)
            return NO_DEVICE
        except BaseException as error:  # also exceptions by which an environment ends the process
            traceback.print_exc()
            message = mask(_message(folder, error))
            if is_out_of_memory(error):
                return _after_running_out_of_memory(folder, message, state)
            _record_failure(folder, message, state)
            return DEVICE_FAILED if is_device_fault(error) else FAILED
        return FINISHED if finished else INTERRUPTED


def _message(folder: PackFolder, error: BaseException) -> str:
    """Why an attempt failed, in one line that names the task and the user's parts, or a file."""
    if isinstance(error, RecordError):
        return reason(error)
    try:
        config = folder.configs()[0]
    except RecordError as unreadable:
        return f"{reason(error)}; {unreadable}"
    return f"{', '.join(dict.fromkeys([config.task, *config.sources]))}: {reason(error)}"


def record_kill(folder: PackFolder, number: int) -> int:
    """Record that an attempt was killed by the signal `number`; the exit code.

    If the host killed it because memory was short, the pack is split.
    """
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
        print(f"{message}; continuing with half the lanes", file=sys.stderr)
        return HALVED
    _record_failure(
        folder, f"{message}; the pack cannot be split further. Request more memory (`memory` in the profile)", state
    )
    return FAILED


def _memory_was_short() -> bool:
    """Has the kernel killed a process of this job's control group because memory was short?"""
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


def _train(
    folder: PackFolder, place: Path, arguments: argparse.Namespace, should_stop: Any, state: Any, began: float
) -> bool:
    device = use_device(arguments.device, folder.tasks())
    state["device_name"] = device.name
    compiled = folder.compiled() and device.torch_device.type != "cpu"  # packs on a CPU have machine code of their own
    if compiled:
        compiled = not becomes_eager(folder)

    from scorer_core.train import Clock, train  # after the lock and the logs, so that a failed import is recorded

    record = provenance(device.name, device.gpu, folder.sources())
    write_json(place / "provenance.json", record)
    if changed := [line for line in upgrades(folder) if line.endswith(f" and {place.name}")]:
        logging.getLogger("scorer").warning("%s", changed[-1])
    beat, clock = arguments.heartbeat_seconds, Clock()

    def run(when_compiled: Callable[[], None] | None = None) -> bool:
        finished = train(
            folder, device.torch_device, arguments.commit_seconds, should_stop, heartbeat_seconds=beat,
            when_compiled=when_compiled, clock=clock, **state,
        )  # fmt: skip
        keep_speed(folder, device.torch_device.type, clock, began, arguments.submission, arguments.core_share)
        return finished

    if arguments.compile_cache is None or not compiled or compile_cache.CHOSEN_BY_USER:
        return run()
    configs = folder.configs()
    key = compile_cache.key(configs[0].shape_id, len(configs), device.name, device.gpu)
    copy = True
    while True:  # a second time if code that was copied does not work here
        with compile_cache.CompileCache(arguments.compile_cache, key) as cache:
            starting = partial(folder.write_state, phase="starting", **state)
            if copy and not cache.fetch(should_stop, starting, beat):
                folder.write_state(phase="interrupted", **state)
                return False

            def publish(cache: compile_cache.CompileCache = cache) -> None:
                counts = cache.publish()
                with folder.in_place():
                    write_json(place / "provenance.json", record | {"compile_cache": counts})

            try:
                return run(publish)
            except Exception as error:
                if not cache.recover(error):
                    raise
        copy = False


def becomes_eager(folder: PackFolder) -> bool:
    """Where no compiler works, make a compiled pack an eager one, if its plan allows it and it has no committed step.

    Raises:
        RecordError: if it must stay compiled; the message says why.
    """
    fault = compiler_fault()
    if fault is None:
        return False
    if not folder.eager_allowed():
        raise RecordError(f"this pack is compiled, because it was planned so, and {fault}")
    if folder.last_commit():
        raise RecordError(f"this pack was compiled before, eager code would not continue it bit for bit, and {fault}")
    folder.make_eager(fault)
    logging.getLogger("scorer").warning("not compiled, so training is slower: %s", fault)
    return True


def _record_failure(folder: PackFolder, message: str, state: dict[str, Any]) -> None:
    last = {}
    try:
        last = {key: value for key, value in folder.state().items() if key in ("step", "total_steps", "lanes")}
        folder.write_state(phase="failed", error=message, **(last | state))
    except RecordError:
        print(f"the failure could not be recorded in {folder.path}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
