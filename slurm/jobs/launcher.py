"""Train packs on this machine or in this job, a limited number at a time: one process per attempt of a pack."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.support.secrets import mask
from scorer_core.support.text import count
from slurm.jobs.train_pack import FINISHED, INTERRUPTED, NO_DEVICE

log = logging.getLogger("scorer")

POLL_SECONDS = 0.25
MOST_KILLS = 2  # of processes on one GPU, before it is not used any more


@dataclass(eq=False)
class Slot:
    """What one process gets of the machine; None: what this process has."""

    gpu: str | None = None  # its token in CUDA_VISIBLE_DEVICES
    cores: frozenset[int] | None = None
    kills: int = 0

    def __str__(self) -> str:
        gpu = f" on GPU {self.gpu}" if self.gpu is not None else ""
        return f"{gpu} with cores {','.join(map(str, sorted(self.cores)))}" if self.cores else gpu

    @property
    def usable(self) -> bool:
        return self.gpu is None or self.kills < MOST_KILLS

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start `command` on this GPU and these cores, in a session of its own."""
        environment = os.environ | ({"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu is not None else {})
        before = os.sched_getaffinity(0) if self.cores else set()
        try:
            if self.cores:
                os.sched_setaffinity(0, self.cores)  # a child has the cores of its parent
            return subprocess.Popen(
                command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        finally:
            if before:
                os.sched_setaffinity(0, before)


@dataclass
class LaunchState:
    """The state of each pack; those in `waiting` have not started."""

    waiting: list[PackFolder]
    running: dict[PackFolder, Slot] = field(default_factory=dict)
    finished: list[PackFolder] = field(default_factory=list)
    interrupted: list[PackFolder] = field(default_factory=list)
    failed: list[tuple[PackFolder, str]] = field(default_factory=list)
    elsewhere: dict[PackFolder, str] = field(default_factory=dict)  # in `running`, but trained by this other process


class Launcher:
    """Trains each pack in its own process, so that a crash does not affect other packs.

    A signal (Ctrl-C, SIGTERM, SIGUSR2) is forwarded: running packs commit and stop, and no more packs are started. If
    Ctrl-C follows, they are killed; commits are kept. Each process has its own session, so that it gets a terminal's
    Ctrl-C only from here. It stops if this process ends.

    With a `submission`, a pack that was killed or split is started again until it has used its attempts, and a pack
    that is cancelled is stopped. Without one, the launcher waits for a pack that another process trains, and continues
    it from its last commit if that process stops early.

    Args:
        slots: one for each pack that is trained at a time. A GPU on which two processes were killed, or found that it
            is not usable, is not used any more.
        options: of `train_pack`.
        submission: see above.
    """

    def __init__(self, slots: Sequence[Slot], options: Sequence[str], submission: str = ""):
        self._slots, self._submission = slots, submission
        self._options = [*options, "--parent", str(os.getpid())]
        self._options += ["--submission", submission] if submission else ["--wait"]
        self._children: dict[PackFolder, subprocess.Popen[bytes]] = {}
        self._states: dict[PackFolder, dict[str, Any]] = {}  # of each pack when its process was started
        self._told: set[PackFolder] = set()  # those of the children that were told to stop
        self._signals: list[int] = []

    def run(self, folders: Sequence[PackFolder], on_tick: Callable[[LaunchState], None]) -> LaunchState:
        """Train `folders` in this order; `on_tick` is called a few times per second with their states."""
        outcome = LaunchState(waiting=list(folders))
        numbers = signal.SIGINT, signal.SIGTERM, signal.SIGUSR2
        before = {number: signal.signal(number, lambda number, _: self._signals.append(number)) for number in numbers}
        try:
            while self._children or (outcome.waiting and not self._signals and any(s.usable for s in self._slots)):
                self._stop_children(outcome)
                for slot in [slot for slot in self._slots if slot.usable and slot not in outcome.running.values()]:
                    if outcome.waiting and not self._signals:
                        self._start(outcome, outcome.waiting.pop(0), slot)
                time.sleep(POLL_SECONDS)
                self._look_for_others(outcome)
                self._reap(outcome)
                on_tick(outcome)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return outcome

    def _start(self, outcome: LaunchState, folder: PackFolder, slot: Slot) -> None:
        self._states[folder] = _state(folder)
        command = [sys.executable, "-m", "slurm.jobs.train_pack", str(folder.path), *self._options]
        self._children[folder] = slot.start(command)
        outcome.running[folder] = slot
        log.info("pack %s starts%s", folder.pack_id, slot)

    def _stop_children(self, outcome: LaunchState) -> None:
        """Forward signals, and stop cancelled packs. A process is told once: a second signal may kill it at its end."""
        if self._submission:
            outcome.waiting = [folder for folder in outcome.waiting if not folder.cancelled]
        kill = signal.SIGINT in self._signals[1:]
        for folder, child in self._children.items():
            if kill:
                child.kill()
            elif folder not in self._told and self._must_stop(folder):
                child.terminate()
                self._told.add(folder)

    def _must_stop(self, folder: PackFolder) -> bool:
        return bool(self._signals or (self._submission and folder.cancelled))

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
            slot = outcome.running.pop(folder)
            complaint = child.communicate()[1].decode(errors="replace")
            killed = code < 0 and not self._signals and folder not in self._told
            self._told.discard(folder)
            if killed or code == NO_DEVICE:
                slot.kills += 1
                if not slot.usable:
                    host, kills = socket.gethostname(), count(slot.kills, "process")
                    log.warning("GPU %s of %s is not used any more: %s failed on it", slot.gpu, host, kills)
            how = f"starts again: {failure_reason(folder, code, complaint)}"
            if self._submission and killed:
                code = subprocess.run([*child.args, "--record-kill", str(-code)]).returncode  # pyright: ignore
            if code == FINISHED:
                outcome.finished.append(folder)
                how = "finished"
            elif self._submission and code == INTERRUPTED and not self._must_stop(folder):
                outcome.waiting.insert(0, folder)
            elif code == INTERRUPTED or (code < 0 and not killed):
                outcome.interrupted.append(folder)
                how = "interrupted"
            else:
                why = failure_reason(folder, code, complaint)
                outcome.failed.append((folder, why))
                how = f"failed: {why}"
            log.info("pack %s: %s", folder.pack_id, how)


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
