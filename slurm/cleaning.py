"""What may be thrown away: never a metric, a checkpoint or a record of a run that is not to be removed whole."""

import shutil
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from slurm.board import Board
from slurm.policy import HALVED

ENDED = ("done", "diverged")


def leftovers(board: Board) -> list[Path]:
    """Attempts but the last of finished packs, halved packs, temporary files, and code that nothing will run."""
    doomed: list[Path] = []
    for pack in board.packs.values():
        if pack.state in ENDED:
            attempts = sorted((pack.folder.path / "attempts").glob("[0-9]*"), key=lambda path: int(path.name))
            doomed += attempts[:-1]
            doomed += pack.folder.path.rglob(".*.tmp")
    packs = board.folder / "packs"
    doomed += [path.parent for path in packs.glob(f"*/{HALVED}") if not (path.parent / "pack.json").exists()]
    live = {pack.submission for pack in board.packs.values() if pack.state not in ENDED}
    kept = {submission.code.name for submission in board.submissions if submission.name in live or submission.command}
    kept |= {submission.code.name for submission in board.submissions[-1:]}
    doomed += [code for code in (board.folder / "code").glob("*") if code.name not in kept]
    return doomed


def weigh(doomed: Iterable[Path]) -> tuple[int, int]:
    """How many files these are, with what is in them, and their bytes."""
    files = [file for path in doomed for file in chain([path], path.rglob("*")) if file.is_file()]
    return len(files), sum(file.stat().st_size for file in files)


def remove(doomed: Iterable[Path]) -> None:
    for path in doomed:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
