"""Metrics parts: the files of a pack's logged rows, and their only reader (their content: metric_rows.py). No torch."""

import hashlib
import itertools
import re
from collections.abc import Collection
from pathlib import Path

from scorer_core.support.errors import DamagedError, RecordError
from scorer_core.support.files import replace_file, set_aside

PART_NAME = re.compile(r"part-[0-9]+(-[0-9]+)?\.parquet")


class MetricParts:
    """The metrics parts in one folder, each checked against its SHA-256 when it is read."""

    def __init__(self, folder: Path):
        self.folder = folder

    def paths(self) -> list[Path]:
        """The parts on disk, committed or not, by step."""
        parts = [path for path in self.folder.glob("part-*.parquet") if PART_NAME.fullmatch(path.name)]
        return sorted(parts, key=lambda path: path.stem)

    def write(self, step: int, content: memoryview, committed: Collection[str]) -> tuple[str, str]:
        """Write the part that ends at environment step `step`; its name and SHA-256.

        A part whose name is in `committed` is not replaced: a run commits twice at a step if it stops while it learns.

        Raises:
            RecordError: if it cannot be written.
        """
        suffixes = itertools.chain([""], (f"-{n}" for n in itertools.count(1)))
        names = (f"part-{step:014d}{suffix}.parquet" for suffix in suffixes)
        name = next(name for name in names if name not in committed)
        replace_file(self.folder / name, content)
        return name, hashlib.sha256(content).hexdigest()

    def keep_only(self, names: Collection[str]) -> None:
        """Remove every other part."""
        for part in self.paths():
            if part.name not in names:
                set_aside(part) if part.is_dir() else part.unlink()

    def check(self, name: str, checksum: str) -> str:
        """The SHA-256 of the part `name`, whose recorded one is `checksum` ("" if version 0.1 wrote it).

        Raises:
            DamagedError: if the part is missing or damaged.
            RecordError: if it cannot be read for a reason that is not the file's.
        """
        if not checksum:
            from scorer_core.metric_rows import SCHEMA, from_parquet

            from_parquet(self.content(name, checksum), SCHEMA, self.folder / name, validate=True)
        return hashlib.sha256(self.content(name, checksum)).hexdigest()

    def content(self, name: str, checksum: str) -> bytes:
        """The content of the part `name`.

        Raises:
            DamagedError: if it is missing, or its SHA-256 is not `checksum` ("" if none was recorded).
            RecordError: if it cannot be read for a reason that is not the file's.
        """
        path = self.folder / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise DamagedError(f"{path}: missing") from None
        except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
            raise DamagedError(f"{path}: cannot be read: {error.strerror}") from error
        except OSError as error:  # the disk or the network, not the file
            raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
        if checksum and hashlib.sha256(content).hexdigest() != checksum:
            raise DamagedError(f"{path}: damaged: not the SHA-256 that done.json, or the checkpoint, lists")
        return content
