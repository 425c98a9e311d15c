"""Which files may be deleted. Metrics, checkpoints and records of a run are only deleted together with the run."""

import shutil
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from scorer_core.support.errors import RecordError
from scorer_core.support.files import refuse_links
from slurm.jobs.policy import HALVED
from slurm.status import SweepStatus

ENDED = ("done", "diverged")


def leftovers(found: SweepStatus) -> list[Path]:
    """Old attempts of finished packs, packs that were split, temporary files, and what only unfinished packs need.

    That is the snapshots of their code, and the compiled code, once all packs of the sweep are finished.
    Symbolic links are not followed.
    """
    doomed: list[Path] = []
    for pack in found.packs.values():
        folder = pack.folder.path
        if pack.state in ENDED and not folder.is_symlink():
            doomed += [] if (folder / "attempts").is_symlink() else pack.folder.attempts()[:-1]
            doomed += folder.rglob(".*.tmp")
    packs = found.folder / "packs"
    doomed += [path.parent for path in packs.glob(f"*/{HALVED}") if not (path.parent / "pack.json").exists()]
    compiled = found.folder / "compiled"
    if compiled.is_dir() and not compiled.is_symlink() and all(pack.state in ENDED for pack in found.packs.values()):
        doomed.append(compiled)
    live = {pack.submission for pack in found.packs.values() if pack.state not in ENDED}
    kept = {submission.code.name for submission in found.submissions if submission.name in live or submission.command}
    kept |= {submission.code.name for submission in found.submissions[-1:]}
    codes = found.folder / "code"
    doomed += [] if codes.is_symlink() else [code for code in codes.glob("*") if code.name not in kept]
    return doomed


def weigh(doomed: Iterable[Path]) -> tuple[int, int]:
    """The number of files and links in these paths, including their contents, and their size in bytes."""
    paths = [path for top in doomed for path in chain([top], () if top.is_symlink() else top.rglob("*"))]
    files = [path for path in paths if path.is_symlink() or path.is_file()]
    return len(files), sum(file.lstat().st_size for file in files)


def remove(doomed: Iterable[Path]) -> None:
    """Delete these files and folders; a link is deleted, not its target.

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
