"""Train one pack to its end, or until told to stop: settings, setup, loop."""

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import torch

from scorer_core.pack import Pack
from scorer_core.records import SCHEMA, PackFolder

HEARTBEAT_SECONDS = 1.0


def train(
    folder: PackFolder, device: torch.device, commit_seconds: float, should_stop: Callable[[], bool], **state: Any
) -> bool:
    """Train the pack in `folder` from its last commit; True if it is finished, False if it stopped, all committed.

    `state` is shown in the folder's state beside what changes. The caller holds the folder's lock.

    Raises:
        RecordError: if the folder's records cannot be read or written; its last commit stays whole.
    """
    pack = Pack(folder.configs(), device, folder.compiled())
    commit = folder.last_commit()
    if commit:
        pack.restore(commit.checkpoint)
    rows: list[pa.Table] = []
    clock = Clock(pack)

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
    while not pack.finished:
        pack.step()
        if pack.log_is_due:
            rows.append(pack.log(clock.lap()))
        now = time.monotonic()
        if should_stop():
            commit_now()
            heartbeat("interrupted")
            return False
        if now - committed >= commit_seconds:
            commit_now()
            committed = time.monotonic()
        if now - beat >= HEARTBEAT_SECONDS:
            heartbeat("training")
            beat = now

    commit_now()
    diverged = pack.diverged.tolist()
    folder.finish(
        {c.run_id: {"status": "diverged" if d else "done"} for c, d in zip(pack.configs, diverged, strict=True)}
    )
    heartbeat("done")
    return True


class Clock:
    """Environment steps a second of all lanes together, since the last lap and over this attempt."""

    def __init__(self, pack: Pack):
        self._pack = pack
        self._start = self._lap = (pack.env_steps, time.monotonic())

    @property
    def steps_per_second(self) -> float:
        return self._since(self._start)

    def lap(self) -> float:
        speed, self._lap = self._since(self._lap), (self._pack.env_steps, time.monotonic())
        return speed

    def _since(self, mark: tuple[int, float]) -> float:
        steps, then = mark
        return (self._pack.env_steps - steps) * len(self._pack.configs) / max(time.monotonic() - then, 1e-9)
