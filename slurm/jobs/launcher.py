"""Train packs on this machine or in this job, a limited number at a time: one process per attempt of a pack."""

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scorer_core.plugins import interpreter
from scorer_core.records import PackFolder
from scorer_core.support.cores import usable_cores
from scorer_core.support.errors import RecordError
from scorer_core.support.secrets import mask
from slurm.jobs.train_pack import DEVICE_FAILED, FINISHED, INTERRUPTED, NO_DEVICE

log = logging.getLogger("scorer")

POLL_SECONDS = 0.25
CANCELLED_POLL_SECONDS = 2.0  # the file system is shared
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
    cancelled: list[PackFolder] = field(default_factory=list)
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
        slots: one for each pack that is trained at a time. A GPU that a process could not use, or on which two
            processes were killed or had an error of the GPU, is not used any more.
        options: of `train_pack`.
        submission: see above.
    """

    def __init__(self, slots: Sequence[Slot], options: Sequence[str], submission: str = ""):
        self._slots, self._submission = slots, submission
        self._options = [*options, "--parent", str(os.getpid())]
        self._options += ["--submission", submission] if submission else ["--wait"]
        self._children: dict[PackFolder, subprocess.Popen[bytes]] = {}
        self._states: dict[PackFolder, dict[str, Any]] = {}  # of each pack when its process was started
        self._told: dict[PackFolder, str] = {}  # those of the children that were told to stop, and why
        self._signals: list[int] = []
        self._looked = 0.0  # when `_stop_cancelled` looked

    def run(self, folders: Sequence[PackFolder], on_tick: Callable[[LaunchState], None]) -> LaunchState:
        """Train `folders` in this order; `on_tick` is called a few times per second with their states."""
        outcome = LaunchState(waiting=list(folders))
        self._core_share = min(1.0, usable_cores() / max(1, min(len(self._slots), len(folders))))
        numbers = signal.SIGINT, signal.SIGTERM, signal.SIGUSR2
        before = {number: signal.signal(number, lambda number, _: self._signals.append(number)) for number in numbers}
        try:
            while self._children or (outcome.waiting and not self._signals and any(s.usable for s in self._slots)):
                self._stop_cancelled(outcome)
                self._forward_signals()
                for slot in [slot for slot in self._slots if slot.usable and slot not in outcome.running.values()]:
                    if outcome.waiting and not self._signals:
                        self._start(outcome, outcome.waiting.pop(0), slot)
                time.sleep(POLL_SECONDS)
                if not self._submission:
                    self._look_for_others(outcome)
                self._reap(outcome)
                on_tick(outcome)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return outcome

    def _start(self, outcome: LaunchState, folder: PackFolder, slot: Slot) -> None:
        self._states[folder] = _state(folder)
        command = [*interpreter(), "-m", "slurm.jobs.train_pack", str(folder.path), *self._options]
        command += [f"--core-share={self._core_share:g}"]
        self._children[folder] = slot.start(command)
        outcome.running[folder] = slot
        log.info("pack %s starts%s", folder.pack_id, slot)

    def _stop_cancelled(self, outcome: LaunchState) -> None:
        if not self._submission or time.monotonic() - self._looked < CANCELLED_POLL_SECONDS:
            return
        cancelled = [folder for folder in (*outcome.waiting, *self._children) if _is_cancelled(folder)]
        outcome.cancelled += [folder for folder in outcome.waiting if folder in cancelled]
        outcome.waiting = [folder for folder in outcome.waiting if folder not in cancelled]
        for folder in cancelled:
            self._tell(folder, "cancelled")
        self._looked = time.monotonic()

    def _forward_signals(self) -> None:
        for folder, child in self._children.items() if self._signals else ():
            self._tell(folder, "interrupted")
            if signal.SIGINT in self._signals[1:]:
                child.kill()

    def _tell(self, folder: PackFolder, why: str) -> None:
        """Tell the process of `folder` to stop, but only once: a second signal could kill it while it ends."""
        if folder in self._children and folder not in self._told:
            self._told[folder] = why
            self._children[folder].terminate()

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
            told = self._told.pop(folder, "interrupted" if self._signals else "")
            killed = code < 0 and not told
            self._judge(slot, code, killed)
            how = f"starts again: {failure_reason(folder, code, complaint)}"
            if self._submission and code < 0 and told != "interrupted":
                code = subprocess.run([*child.args, "--record-kill", str(-code)]).returncode  # pyright: ignore
            elsewhere = code == NO_DEVICE and any(slot.gpu is not None and slot.usable for slot in self._slots)
            if code == FINISHED:
                outcome.finished.append(folder)
                how = "finished"
            elif self._submission and not told and (code == INTERRUPTED or elsewhere):
                outcome.waiting.insert(0, folder)
            elif code == INTERRUPTED or (code < 0 and told):
                (outcome.cancelled if told == "cancelled" else outcome.interrupted).append(folder)
                how = told or "interrupted"
            else:
                why = failure_reason(folder, code, complaint)
                outcome.failed.append((folder, why))
                how = f"failed: {why}"
            log.info("pack %s: %s", folder.pack_id, how)

    def _judge(self, slot: Slot, code: int, killed: bool) -> None:
        """Count against its GPU how a process ended."""
        slot.kills += MOST_KILLS if code == NO_DEVICE else int(killed or code == DEVICE_FAILED)
        if not slot.usable and (killed or code in (NO_DEVICE, DEVICE_FAILED)):
            why = "a process could not use it" if code == NO_DEVICE else f"{slot.kills} processes failed on it"
            log.warning("GPU %s of %s is not used any more: %s", slot.gpu, socket.gethostname(), why)


def _is_cancelled(folder: PackFolder) -> bool:
    """If the file system does not answer, False: it is asked again."""
    try:
        return folder.cancelled
    except OSError:
        return False


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
