"""Commits of a pack: a checkpoint file that lists every metrics part up to it, with its SHA-256. No torch.

A checkpoint file has three parts: the SHA-256 of the rest in hexadecimal, a line of JSON with the step and the metrics
parts, and the state of the pack (`checkpoint.dump`). A part that no checkpoint lists was never committed.
"""

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scorer_core.metric_parts import MetricParts
from scorer_core.support.errors import DamagedError
from scorer_core.support.files import replace_file, set_aside

KEPT_COMMITS = 2

log = logging.getLogger("scorer")


@dataclass(frozen=True)
class Commit:
    step: int  # environment steps
    parts: dict[str, str]  # the metrics parts up to `step`: name and SHA-256
    checkpoint: bytes


class Commits:
    """The checkpoints in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, commit: Commit) -> None:
        """Write the checkpoint of `commit`, whose parts are written already, and remove older ones.

        Raises:
            RecordError: if it cannot be written.
        """
        header = json.dumps({"step": commit.step, "parts": commit.parts}).encode() + b"\n"
        payload = header + commit.checkpoint
        checksum = hashlib.sha256(payload).hexdigest().encode()
        replace_file(self.folder / f"{commit.step:014d}.ckpt", checksum + b"\n" + payload, 0o644)
        for old in self._files()[:-KEPT_COMMITS]:
            old.unlink()

    def newest(self, parts: MetricParts) -> Commit | None:
        """The newest commit that is whole; None if there is none.

        A checkpoint that is damaged, or that lists a damaged part, is set aside with a warning.

        Raises:
            RecordError: if a part exists but cannot be read; nothing is set aside then.
        """
        checkpoints = self._files()
        for path in reversed(checkpoints):
            try:
                return self._read(path, parts)
            except DamagedError as error:
                log.warning("%s; going back to the checkpoint before", error)
                set_aside(path)
        dropped = len(parts.paths())
        if checkpoints or dropped:
            message = "%s: no checkpoint is whole: %d metrics parts are dropped, and training starts again from step 0"
            log.warning(message, self.folder.parent, dropped)
        return None

    def listed_parts(self) -> dict[str, str]:
        """The metrics parts that the newest readable checkpoint lists; empty without one."""
        for path in reversed(self._files()):
            with suppress(OSError, DamagedError), path.open("rb") as file:
                file.readline()
                return _read_header(file.readline(), path)[1]
        return {}

    def step(self) -> int:
        """Environment step of the newest checkpoint, 0 without one; whether it is whole is not checked."""
        return max((int(path.stem) for path in self._files()), default=0)

    def remove(self) -> None:
        """Remove all checkpoints, also those that were set aside."""
        for checkpoint in self.folder.glob("*.ckpt*"):
            if not checkpoint.is_dir():
                checkpoint.unlink()

    def _files(self) -> list[Path]:
        found = self.folder.glob("*.ckpt")
        return sorted((path for path in found if path.stem.isdecimal()), key=lambda path: int(path.stem))

    def _read(self, path: Path, parts: MetricParts) -> Commit:
        try:
            checksum, _, payload = path.read_bytes().partition(b"\n")
        except OSError as error:
            raise DamagedError(f"{path}: cannot be read: {error.strerror}") from error
        if hashlib.sha256(payload).hexdigest().encode() != checksum:
            raise DamagedError(f"{path}: corrupt checkpoint")
        header, _, checkpoint = payload.partition(b"\n")
        step, listed = _read_header(header, path)
        try:
            whole = {name: parts.check(name, expected) for name, expected in listed.items()}
        except DamagedError as error:
            raise DamagedError(f"{path}: cannot be used: {error}") from error
        return Commit(step, whole, checkpoint)


def _read_header(header: bytes, path: Path) -> tuple[int, dict[str, str]]:
    """The step of a checkpoint, and the metrics parts that it lists; version 0.1 lists them without checksums."""
    try:
        content = json.loads(header)
        step, parts = content["step"], content["parts"]
        return int(step), dict(parts) if isinstance(parts, dict) else dict.fromkeys(map(str, parts), "")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise DamagedError(f"{path}: corrupt checkpoint") from error
