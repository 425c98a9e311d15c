"""The process that runs a submission on this machine: `python -m slurm.local.supervisor SUBMISSION`.

It starts the packs of one submission, a limited number at a time, with the launcher of `scorer run`. It writes which
packs run and wait into `queue.json`, and draws the report at the end. It holds a lock while it runs.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from scorer_core.record_forms import read_record
from scorer_core.records import PackFolder
from scorer_core.support import streams
from scorer_core.support.cores import usable_cores
from scorer_core.support.errors import RecordError
from scorer_core.support.files import open_log, replace_file, write_json
from scorer_core.support.locks import Lock, is_locked, locked
from scorer_core.support.secrets import mask
from slurm.backend import Queue, QueuedJob, SchedulerError
from slurm.jobs.launcher import Launcher, LaunchState, Slot
from slurm.jobs.train_pack import FAILED, INTERRUPTED
from slurm.submissions.snapshot import check_code
from slurm.submissions.submission import PRIVATE, Submission, read, report_command, setup

START_PATIENCE_SECONDS = 60.0


def start(submission: Submission) -> None:
    """Start the supervisor of a submission. It continues when this process and its terminal have ended.

    Raises:
        SchedulerError: if it does not start.
    """
    logs = submission.folder / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    script = submission.folder / "start.sh"  # a file, because all users can read the arguments of a process
    shell = "\n".join([*setup(submission), '"$@" &'])  # the shell ends at once, so its child has no parent
    replace_file(script, (shell + "\n").encode(), PRIVATE)
    with open_log(logs / "supervisor.log") as log:
        command = ["bash", str(script), sys.executable, "-m", "slurm.local.supervisor", str(submission.folder)]
        done = subprocess.run(command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    end = time.monotonic() + START_PATIENCE_SECONDS
    while not (submission.folder / "queue.json").exists():
        if done.returncode or time.monotonic() > end:
            lines = (logs / "supervisor.log").read_text(encoding="utf-8", errors="replace").splitlines()
            raise SchedulerError(
                f"the process that starts the packs did not start: {mask((lines or ['it printed nothing'])[-1])}"
            )
        time.sleep(0.05)


def alive(submission: Submission) -> bool:
    """Does the supervisor of `submission` run? It holds a lock, which is released even by a crash.

    Raises:
        RecordError: if the lock cannot be opened.
    """
    return is_locked(submission.folder / "lock")


def queue(submission: Submission) -> Queue:
    """The packs, or workers, of `submission` that run or wait on this machine.

    Raises:
        RecordError: if the queue cannot be read.
    """
    if not alive(submission):
        return {}
    path = submission.folder / "queue.json"
    content = read_record(path, dict[int, Literal["running", "pending"]]) or {}
    if strange := content.keys() - set(range(len(submission.packs) or submission.workers)):
        raise RecordError(f"{path}: the submission has no pack number {min(strange)}")
    first = {i: QueuedJob(s, "all processes are busy" if s == "pending" else "", "") for i, s in content.items()}
    report = {submission.report_job.name: {0: QueuedJob("pending", "Dependency")}} if submission.report_job else {}
    return {submission.arrays[0].name: first, **report}


def main() -> int:
    """Run the submission named on the command line; the exit code."""
    streams.protect()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submission", type=Path, help="the folder of the submission")
    arguments = parser.parse_args()
    check_code()
    submission = read(arguments.submission)
    with locked(submission.folder / "lock") as lock:  # waits: `alive` may hold it for a moment
        try:
            return _workers(submission, lock) if submission.command else _packs(submission, lock)
        except RecordError as error:  # the processes that it started stop by themselves
            print(error, file=sys.stderr)
            return FAILED


def _packs(submission: Submission, lock: Lock) -> int:
    profile = submission.profile
    folders = [PackFolder(submission.sweep_folder / "packs" / name) for name in submission.packs]
    places = {folder: index for index, folder in enumerate(folders)}
    shown: dict[str, str] = {}

    def show(outcome: LaunchState) -> None:
        states = {str(places[folder]): "running" for folder in outcome.running}
        states |= {str(places[folder]): "pending" for folder in outcome.waiting}
        with lock.in_place():
            if states != shown:
                write_json(submission.folder / "queue.json", states)
                shown.clear()
                shown.update(states)

    show(LaunchState(waiting=folders))
    options = ["--device", profile.job_device, "--commit-seconds", f"{profile.commit_seconds:g}"]
    options += ["--max-attempts", str(profile.max_attempts)]
    slots = [Slot() for _ in range(profile.processes or usable_cores())]
    launcher = Launcher(slots, options, submission.name)
    outcome = launcher.run(folders, show)
    for folder, why in outcome.failed:
        print(f"pack {folder.pack_id} failed: {why}", file=sys.stderr)
    if outcome.waiting or outcome.interrupted:
        return INTERRUPTED
    if len(outcome.cancelled) == len(folders):
        return 0  # as on Slurm, where the report job is cancelled with the last job that it waits for
    return subprocess.run(report_command(submission)).returncode or bool(outcome.failed)


def _workers(submission: Submission, lock: Lock) -> int:
    """Restart each worker until it is done, fails, or has used its attempts."""
    assert submission.command
    stop_signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stop_signals.append(number))
    bound = submission.profile.processes or usable_cores()
    attempts = dict.fromkeys(range(submission.workers), 0)
    running: dict[int, subprocess.Popen[bytes]] = {}
    failed = 0
    while running or (attempts and not stop_signals):
        free = 0 if stop_signals else max(0, bound - len(running))
        with lock.in_place():
            for worker in [w for w in attempts if w not in running][:free]:
                attempts[worker] += 1
                with open_log(submission.folder / "logs" / f"worker-{worker}.log") as log:
                    running[worker] = subprocess.Popen(
                        submission.command, stdout=log, stderr=log, start_new_session=True
                    )
            states = {str(worker): "running" if worker in running else "pending" for worker in attempts}
            write_json(submission.folder / "queue.json", states)
        time.sleep(1.0)
        for worker, code in _ended(running):
            again = code == INTERRUPTED or code < 0
            if not again or attempts[worker] >= submission.profile.max_attempts:
                failed += code != 0
                del attempts[worker]
        if stop_signals:
            for process in running.values():
                process.send_signal(signal.SIGTERM)
    return INTERRUPTED if stop_signals else int(failed > 0)


def _ended(running: dict[int, subprocess.Popen[bytes]]) -> Sequence[tuple[int, int]]:
    ended = [(worker, process.poll()) for worker, process in running.items()]
    codes = [(worker, code) for worker, code in ended if code is not None]
    for worker, _ in codes:
        del running[worker]
    return codes


if __name__ == "__main__":
    sys.exit(main())
