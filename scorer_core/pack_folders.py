"""Which folders under `packs/` are packs."""

import os
from pathlib import Path

from scorer_core.records import HALVED, PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.support.files import PACK_NAME


def pack_folders(packs: Path) -> list[PackFolder]:
    """Every pack under `packs`, by name: the folders named by a pack id, without packs that were replaced by halves."""
    return [PackFolder(path) for path in _folders(packs) if PACK_NAME.fullmatch(path.name) and _holds_pack(path)]


def _holds_pack(path: Path) -> bool:
    if (path / "pack.json").exists():
        return True
    started = any((path / name).exists() for name in ("done.json", "state.json", "checkpoint"))
    return started and not (path / HALVED).exists()


def ignored_folders(packs: Path) -> list[str]:
    """A line for each folder under `packs` that is not named by a pack id, for instance a copy: no command reads it."""
    others = [path for path in _folders(packs) if not path.name.startswith(".") and not PACK_NAME.fullmatch(path.name)]
    return [f"{path}: its name is not a pack id, so it is ignored" for path in others]


def _folders(packs: Path) -> list[Path]:
    try:
        with os.scandir(packs) as entries:
            return [packs / name for name in sorted(entry.name for entry in entries if entry.is_dir())]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RecordError(f"{packs}: cannot be read: {error.strerror}") from error
