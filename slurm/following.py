"""Logs: which pack is meant, and what it said, now or as it says it."""

import time
from pathlib import Path

from scorer_core.records import PackFolder, RecordError, read_json
from slurm.policy import HALVED
from slurm.submission import submissions
from sweeps.terminal import out

POLL_SECONDS = 1.0
STREAMS = ("stdout.log", "stderr.log")


def find(outputs: Path, name: str) -> PackFolder:
    """The pack whose id, or one of whose runs' ids, begins with `name`; `SWEEP/name` where sweeps share it.

    Raises:
        RecordError: if none does, or several.
    """
    sweep, _, start = name.rpartition("/")
    folders = [folder for packs in sorted(outputs.glob(f"{sweep or '*'}/packs")) for folder in sorted(packs.iterdir())]
    found = [folder for folder in folders if folder.name.startswith(start)]
    found = found or [folder for folder in folders if any(run_id.startswith(start) for run_id in _run_ids(folder))]
    if len(found) != 1:
        names = ", ".join(f"{folder.parent.parent.name}/{folder.name}" for folder in found[:5])
        raise RecordError(f"{name}: {f'several packs: {names}' if found else 'no such pack or run'} in {outputs}")
    return PackFolder(found[0])


def show(pack: PackFolder, attempt: int | None, follow: bool) -> None:
    """Print the logs of one attempt; with `follow` go on until the pack is done or has failed.

    Raises:
        RecordError: if there is no such attempt.
    """
    halved = read_json(pack.path / HALVED)
    if halved:
        out.print(f"This pack ran out of memory and was halved: scorer logs {' , scorer logs '.join(halved['into'])}")
    places = sorted((pack.path / "attempts").glob("[0-9]*"), key=lambda place: int(place.name))
    if attempt is not None:
        places = [place for place in places if int(place.name) == attempt]
        if not places:
            raise RecordError(f"{pack.path}: has no attempt {attempt}")
    shown: dict[Path, int] = {}
    logs = [place / stream for place in places[-1:] for stream in STREAMS] or _job_logs(pack)
    said = [_print_new(log, shown) for log in logs]
    if not any(said) and not follow:
        state = pack.state()
        out.print(f"It has said nothing. {pack.path}: {state.get('phase', 'not started')}", soft_wrap=True)
    while follow and not pack.done() and pack.state().get("phase") != "failed":
        time.sleep(POLL_SECONDS)
        for log in sorted((pack.path / "attempts").glob("[0-9]*/std*.log"), key=lambda log: int(log.parent.name)):
            if not places or int(log.parent.name) >= int(places[-1].name):
                _print_new(log, shown)


def _run_ids(folder: Path) -> list[str]:
    pack = read_json(folder / "pack.json")
    return list(pack["runs"]) if isinstance(pack, dict) else []


def _job_logs(pack: PackFolder) -> list[Path]:
    """What the jobs of a pack said before, or instead of, its first attempt: a setup line that failed, for instance."""
    return [
        submission.folder / "logs" / f"{request.job}_{submission.packs.index(pack.pack_id) - request.first}.log"
        for submission in submissions(pack.path.parent.parent)
        if pack.pack_id in submission.packs
        for request in submission.requests
        if 0 <= submission.packs.index(pack.pack_id) - request.first < request.count
    ]


def _print_new(log: Path, shown: dict[Path, int]) -> bool:
    """Print what `log` has beyond what was shown of it."""
    try:
        with log.open("rb") as file:
            file.seek(shown.get(log, 0))
            text = file.read()
    except FileNotFoundError:
        return False
    if not text:
        return False
    if log not in shown:
        out.print(f"[dim]{log}[/]", highlight=False, soft_wrap=True)
    shown[log] = shown.get(log, 0) + len(text)
    out.print(text.decode(errors="replace"), end="", markup=False, highlight=False, soft_wrap=True)
    return True
