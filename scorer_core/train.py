"""Train one pack to its end, or until it must stop: settings, setup, loop."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

from scorer_core import verdicts
from scorer_core.checkpoint import make_private
from scorer_core.commits import Commit
from scorer_core.metric_rows import SCHEMA
from scorer_core.pack import Pack
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.support.memory import keep_freed_memory

HEARTBEAT_SECONDS = 1.0
STEADY_SECONDS = 2.0  # after this time at full speed, the start no longer counts in the speed
CHECKPOINTS = "checkpoint"  # the folder of a pack's checkpoints


def train(
    folder: PackFolder,
    device: torch.device,
    commit_seconds: float,
    should_stop: Callable[[], bool],
    until: int | None = None,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    when_compiled: Callable[[], None] | None = None,
    clock: "Clock | None" = None,
    **state: Any,
) -> bool:
    """Train the pack in `folder` from its last commit. The caller holds the folder's lock.

    Args:
        folder: of the pack.
        device: to train on.
        commit_seconds: between commits.
        should_stop: called after every vector step and part of learning; True stops training after a commit.
        until: environment step at which training pauses after a commit (default: the end of the runs).
        heartbeat_seconds: between heartbeats.
        when_compiled: called once, as soon as nothing more will be compiled.
        clock: measures this attempt; the caller reads it afterwards.
        state: further fields of each heartbeat.

    Returns:
        True if the runs are finished; False if training stopped, with everything committed.

    Raises:
        RecordError: if the records cannot be read or written, or the checkpoint has another version. The last commit
            stays whole.
    """
    keep_freed_memory()
    pack = Pack(folder.configs(), device, folder.compiled(), folder.run_ids())
    commit = folder.last_commit()
    if commit:
        _restore(pack, folder, commit)
    elif pack.environments.pickled:
        make_private(folder.path / CHECKPOINTS)
    rows: list[pa.Table] = []
    clock = clock or Clock()
    clock.begin(pack)

    def heartbeat(phase: str) -> None:
        folder.write_state(
            phase=phase,
            step=min(pack.env_steps, pack.config.total_steps),
            total_steps=pack.config.total_steps,
            lanes=len(pack.configs),
            steps_per_second=round(clock.steps_per_second, 1),
            **state,
        )

    def commit_now() -> None:
        folder.commit(pack.env_steps, pa.concat_tables(rows) if rows else SCHEMA.empty_table(), pack.state())
        rows.clear()

    heartbeat("training")
    committed = beat = time.monotonic()
    pause = pack.config.total_steps if until is None else until
    while not pack.finished:
        if pack.env_steps >= pause and pack.part == 0:
            commit_now()
            heartbeat("paused")
            return False
        pack.step()
        if clock.full_speed is None and pack.all_compiled:
            if when_compiled:
                when_compiled()
            clock.reach_full_speed()
        if pack.log_is_due:
            rows.append(pack.log(clock.lap()))
        now = time.monotonic()
        if should_stop():
            clock.end()
            commit_now()
            heartbeat("interrupted")
            return False
        if now - committed >= commit_seconds:
            commit_now()
            committed = time.monotonic()
        if now - beat >= heartbeat_seconds:
            heartbeat("training")
            beat = now

    clock.end()
    commit_now()
    found = verdicts.of_pack(folder)
    folder.finish(
        {
            run_id: {"status": "diverged" if diverged else "done", "verdicts": found[run_id]}
            for run_id, diverged in zip(pack.run_ids, pack.diverged.tolist()[: len(pack.run_ids)], strict=True)
        }
    )
    heartbeat("done")
    return True


def _restore(pack: Pack, folder: PackFolder, commit: Commit, lanes: Sequence[int] | None = None) -> None:
    """`Pack.restore` from a commit of `folder`.

    Raises:
        RecordError: if the checkpoint does not fit the pack; the message names the file and the key.
    """
    file = folder.path / CHECKPOINTS / f"{commit.step:014d}.ckpt"
    try:
        pack.restore(commit.checkpoint, lanes, file)
        if pack.env_steps != commit.step:
            raise ValueError(f"'vector_step' is {pack.vector_step}, which is not step {commit.step}")
    except ValueError as error:
        raise RecordError(
            f"{file}: {error}; resume with the version of scorer that wrote it (attempts/*/provenance.json names "
            f"its git commit), or delete {folder.path} to train its runs again"
        ) from error


def split_pack(old: PackFolder, new: PackFolder, device: torch.device) -> None:
    """Start the pack `new`, which has some of the runs of `old`, at the last commit of `old`.

    Each run continues to the same metrics as it would have in `old`.

    Raises:
        RecordError: if `old` has no commit, its checkpoint has another version, or a record cannot be read or written.
    """
    commit = old.last_commit()
    if commit is None:
        raise RecordError(f"{old.path}: it has no checkpoint from which its runs could continue")
    run_ids, place = new.run_ids(), {run_id: lane for lane, run_id in enumerate(old.run_ids())}
    pack = Pack(new.configs(), device, new.compiled(), run_ids)
    _restore(pack, old, commit, [place[run_id] for run_id in run_ids])
    if pack.environments.pickled:
        make_private(new.path / CHECKPOINTS)
    new.commit(commit.step, old.rows(SCHEMA.names, run_ids), pack.state())


@dataclass(frozen=True)
class Mark:
    """A moment of an attempt."""

    vector_step: int
    time: float  # seconds of `time.monotonic`


class Clock:
    """Environment steps per second of all lanes together in one attempt, and when it was at full speed."""

    def begin(self, pack: Pack) -> None:
        """The attempt starts to train `pack`."""
        self._pack = pack
        self.begun = self._lap = self._now()
        self.full_speed: Mark | None = None  # when nothing more had to be traced or compiled
        self.ended: Mark | None = None  # before the last commit

    def reach_full_speed(self) -> None:
        self.full_speed = self._now()

    def end(self) -> None:
        self.ended = self._now()

    @property
    def steps_per_second(self) -> float:
        """Environment steps per second of this attempt: at full speed, if it was that for `STEADY_SECONDS`."""
        full = self.full_speed
        return self._since(full if full and time.monotonic() - full.time > STEADY_SECONDS else self.begun)

    def lap(self) -> float:
        """Environment steps per second since the last lap; starts the next lap."""
        speed, self._lap = self._since(self._lap), self._now()
        return speed

    def _now(self) -> Mark:
        return Mark(self._pack.vector_step, time.monotonic())

    def _since(self, mark: Mark) -> float:
        now = self._now()
        steps = (now.vector_step - mark.vector_step) * self._pack.config.num_envs * len(self._pack.configs)
        return steps / max(now.time - mark.time, 1e-9)
