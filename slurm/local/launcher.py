"""Train packs on this machine, in a limited number of processes: one process per attempt of a pack."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.support.secrets import mask
from slurm.jobs.train_pack import FINISHED, INTERRUPTED

POLL_SECONDS = 0.25


@dataclass
class LaunchState:
    """The state of each pack; those in `waiting` have not started."""

    waiting: list[PackFolder]
    running: list[PackFolder] = field(default_factory=list)
    finished: list[PackFolder] = field(default_factory=list)
    interrupted: list[PackFolder] = field(default_factory=list)
    failed: list[tuple[PackFolder, str]] = field(default_factory=list)
    elsewhere: dict[PackFolder, str] = field(default_factory=dict)  # in `running`, but trained by this other process


class LocalLauncher:
    """Trains each pack in its own process, so that a crash does not affect other packs.

    An interrupt (Ctrl-C, SIGTERM) is forwarded: running packs commit and stop, and no more packs are started. A second
    interrupt kills them; commits are kept. Each process has its own session, so that it gets a terminal's Ctrl-C only
    from here. It stops if this process ends.

    With a `submission`, a pack that was killed or split is started again until it has used `max_attempts`, and a pack
    that is cancelled is stopped. Without one, the launcher waits for a pack that another process trains, and continues
    it from its last commit if that process stops early.
    """

    def __init__(
        self,
        processes: int,
        device: str,
        commit_seconds: float,
        heartbeat_seconds: float = 1.0,
        submission: str = "",
        max_attempts: int = sys.maxsize,
    ):
        self._processes, self._submission = processes, submission
        self._options = ["--device", device, "--commit-seconds", str(commit_seconds), "--parent", str(os.getpid())]
        self._options += ["--heartbeat-seconds", str(heartbeat_seconds), "--max-attempts", str(max_attempts)]
        self._options += ["--submission", submission] if submission else ["--wait"]
        self._children: dict[PackFolder, subprocess.Popen[bytes]] = {}
        self._states: dict[PackFolder, dict[str, Any]] = {}  # of each pack when its process was started
        self._interrupts = 0

    def run(self, folders: Sequence[PackFolder], on_tick: Callable[[LaunchState], None]) -> LaunchState:
        """Train `folders` in this order; `on_tick` is called a few times per second with their states."""
        outcome = LaunchState(waiting=list(folders))
        numbers = signal.SIGINT, signal.SIGTERM
        before = {number: signal.signal(number, lambda *_: self._interrupt()) for number in numbers}
        try:
            while self._children or (outcome.waiting and not self._interrupts):
                self._stop_cancelled(outcome)
                while outcome.waiting and len(self._children) < self._processes and not self._interrupts:
                    folder = outcome.waiting.pop(0)
                    self._states[folder] = _state(folder)
                    self._children[folder] = self._start(folder)
                    outcome.running.append(folder)
                time.sleep(POLL_SECONDS)
                self._look_for_others(outcome)
                self._reap(outcome)
                on_tick(outcome)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return outcome

    def _start(self, folder: PackFolder) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "slurm.jobs.train_pack", str(folder.path), *self._options]
        return subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def _interrupt(self) -> None:
        self._interrupts += 1
        for child in self._children.values():
            child.send_signal(signal.SIGTERM if self._interrupts == 1 else signal.SIGKILL)

    def _stop_cancelled(self, outcome: LaunchState) -> None:
        if not self._submission:
            return
        outcome.waiting = [folder for folder in outcome.waiting if not folder.cancelled]
        for folder, child in self._children.items():
            if folder.cancelled:
                child.send_signal(signal.SIGTERM)

    def _look_for_others(self, outcome: LaunchState) -> None:
        for folder, child in self._children.items():
            state = _state(folder)
            if state.get("pid") not in (None, child.pid) and state.get("time") != self._states[folder].get("time"):
                outcome.elsewhere[folder] = f"process {state['pid']} on {state.get('host') or 'an unknown host'}"

    def _reap(self, outcome: LaunchState) -> None:
        for folder, child in list(self._children.items()):
            code = child.poll()
            if code is None:
                continue
            del self._children[folder]
            outcome.running.remove(folder)
            _, complaint = child.communicate()
            if self._submission and code < 0 and not self._interrupts:
                code = subprocess.run([*child.args, "--record-kill", str(-code)]).returncode  # pyright: ignore
            if code == FINISHED:
                outcome.finished.append(folder)
            elif self._submission and code == INTERRUPTED and not self._interrupts and not folder.cancelled:
                outcome.waiting.insert(0, folder)
            elif code == INTERRUPTED or (self._interrupts and code < 0):
                outcome.interrupted.append(folder)
            else:
                outcome.failed.append((folder, failure_reason(folder, code, complaint.decode(errors="replace"))))


def _state(folder: PackFolder) -> dict[str, Any]:
    try:
        return folder.state()
    except RecordError:
        return {}


def failure_reason(folder: PackFolder, code: int, complaint: str) -> str:
    """Why an attempt failed, in one line: the recorded error, or its last output, or its exit code."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    if not folder.path.exists():
        return f"{folder.path}: was moved or removed"
    try:
        state = folder.state()
    except RecordError as error:
        return str(error)
    if state.get("phase") == "failed":
        return state.get("error", "no reason was recorded")
    return mask(complaint.strip().splitlines()[-1]) if complaint.strip() else f"exit code {code}"
