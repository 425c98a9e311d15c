"""What may be thrown away: never a metric, a checkpoint or a record of a run that is not to be removed whole."""

import shutil
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from scorer_core.support.errors import RecordError
from scorer_core.support.files import refuse_links
from slurm.jobs.policy import HALVED
from slurm.status import SweepStatus

ENDED = ("done", "diverged")


def leftovers(board: SweepStatus) -> list[Path]:
    """Attempts but the last of finished packs, halved packs, temporary files, and code that nothing will run.

    Nothing behind a link is among them.
    """
    doomed: list[Path] = []
    for pack in board.packs.values():
        folder = pack.folder.path
        if pack.state in ENDED and not folder.is_symlink():
            doomed += [] if (folder / "attempts").is_symlink() else pack.folder.attempts()[:-1]
            doomed += folder.rglob(".*.tmp")
    packs = board.folder / "packs"
    doomed += [path.parent for path in packs.glob(f"*/{HALVED}") if not (path.parent / "pack.json").exists()]
    live = {pack.submission for pack in board.packs.values() if pack.state not in ENDED}
    kept = {submission.code.name for submission in board.submissions if submission.name in live or submission.command}
    kept |= {submission.code.name for submission in board.submissions[-1:]}
    codes = board.folder / "code"
    doomed += [] if codes.is_symlink() else [code for code in codes.glob("*") if code.name not in kept]
    return doomed


def weigh(doomed: Iterable[Path]) -> tuple[int, int]:
    """How many files and links these are, with what is in them, and their bytes."""
    paths = [path for top in doomed for path in chain([top], () if top.is_symlink() else top.rglob("*"))]
    files = [path for path in paths if path.is_symlink() or path.is_file()]
    return len(files), sum(file.lstat().st_size for file in files)


def remove(doomed: Iterable[Path]) -> None:
    """Remove these files and folders; of a link the link, never what it points to.

    Raises:
        RecordError: if one cannot be removed.
    """
    for path in doomed:
        refuse_links(path.parent)
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise RecordError(f"{error.filename or path}: cannot be removed: {error.strerror}") from error
