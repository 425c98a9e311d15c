"""A batch: trials that one worker trains together, with what the workers before it left in `batch.json`."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from scorer_core.identity import pack_id
from scorer_core.record_forms import read_record
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.support.files import write_json
from sweeps.search import Settings
from sweeps.storage import Lock


class Decision(BaseModel):
    """The trials that were pruned at one rung."""

    step: int  # environment steps
    pruned: list[int]


class BatchRecord(BaseModel):
    """batch.json"""

    points: dict[int, dict[str, Any]]
    packs: list[list[str]]
    decisions: list[Decision]
    starts: list[list[int]] = []
    error: str = ""


@dataclass
class Batch:
    """Trials trained together by the worker that holds the lock of the batch."""

    path: Path
    points: dict[int, Settings]  # by trial number
    packs: list[list[str]] = field(default_factory=list)  # the run ids of each pack
    decisions: list[dict[str, Any]] = field(default_factory=list)  # at each rung passed: its step, the pruned trials
    starts: list[list[int]] = field(default_factory=list)  # `progress` when each worker started
    error: str = ""  # why the last worker ended, if it could write it
    adopted: bool = False  # another worker started it

    def __post_init__(self) -> None:
        self._lock = Lock(self.path / "lock")

    def read(self) -> bool:
        """Read what the worker before wrote; False if it wrote nothing.

        Raises:
            RecordError: if the file cannot be read, or contains something else.
        """
        record = read_record(self.path / "batch.json", BatchRecord)
        if record is None:
            return False
        self.points, self.packs = record.points, record.packs
        self.decisions = [decision.model_dump() for decision in record.decisions]
        self.starts, self.error = record.starts, record.error
        self.adopted = True
        return True

    def write(self) -> None:
        """Replace `batch.json`.

        Raises:
            RecordError: if it cannot be written.
        """
        write_json(
            self.path / "batch.json",
            {
                "points": {str(n): p for n, p in self.points.items()}, "packs": self.packs,
                "decisions": self.decisions, "starts": self.starts, "error": self.error,
            },
        )  # fmt: skip

    def progress(self, packs: Path) -> list[int]:
        """Numbers that change when a rung is passed, a pack is finished, or a checkpoint is committed."""
        folders = [PackFolder(packs / pack_id(run_ids)) for run_ids in self.packs]
        finished = sum((folder.path / "done.json").exists() for folder in folders)
        return [len(self.decisions), finished, sum(folder.committed_step() for folder in folders)]

    def forget_start(self) -> None:
        """Do not count this worker: it was asked to stop, or ended for a reason that is not the trials'."""
        self.starts.pop()
        if self.path.exists():  # the folder of the search may have been moved
            with suppress(RecordError):  # a full disk may be the reason why it ended
                self.write()

    def acquire(self) -> bool:
        """Take the lock; False if another worker holds it.

        Raises:
            StorageError: if the file cannot be locked.
        """
        return self._lock.acquire(patience=0)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()
