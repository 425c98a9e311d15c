"""Logs: which pack is meant, and what it said, now or as it says it."""

import time
from contextlib import suppress
from pathlib import Path

from cli.console import out
from scorer_core.records import PackFolder
from scorer_core.support.commands import logs_command
from scorer_core.support.errors import RecordError
from scorer_core.support.files import PACK_NAME
from scorer_core.support.secrets import mask
from slurm.backend import backend_of
from slurm.jobs.policy import halves
from slurm.submissions.submission import submissions

POLL_SECONDS = 1.0
STREAMS = ("stdout.log", "stderr.log")


def find(outputs: Path, name: str) -> PackFolder:
    """The pack whose id, or one of whose runs' ids, begins with `name`; `SWEEP/name` where sweeps share it.

    `name` may also be the path of a pack's folder.

    Raises:
        RecordError: if none does, or several.
    """
    path = Path(name).absolute()
    if PACK_NAME.fullmatch(path.name) and path.is_dir():
        return PackFolder(path)
    sweep, _, start = name.rpartition("/")
    sweeps = sorted(outputs.glob("*/packs"))
    sweeps = [packs for packs in sweeps if not sweep or packs.parent.name == sweep]
    folders = [folder for packs in sweeps for folder in sorted(packs.glob("*/"))]
    folders = [folder for folder in folders if PACK_NAME.fullmatch(folder.name)]
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
    halved = [half.path for half in halves(pack)]
    if halved:
        halves_logs = " , ".join(map(logs_command, halved))
        out.print(f"This pack ran out of memory and was halved: {halves_logs}")
    places = pack.attempts()
    if attempt is not None:
        places = [place for place in places if int(place.name) == attempt]
        if not places:
            raise RecordError(f"{pack.path}: has no attempt {attempt}")
    shown: dict[Path, int] = {}
    logs = [place / stream for place in places[-1:] for stream in STREAMS]
    if attempt is None:
        logs += _job_logs(pack)  # Slurm writes there why it ended a job
    said = [_print_new(log, shown) for log in logs]
    if not any(said) and not follow:
        state = pack.state()
        out.print(f"No output yet. {pack.path}: {state.get('phase', 'not started')}")
    while follow and not pack.done() and pack.state().get("phase") != "failed":
        time.sleep(POLL_SECONDS)
        for place in pack.attempts():
            if not places or int(place.name) >= int(places[-1].name):
                for stream in STREAMS:
                    _print_new(place / stream, shown)
        for log in logs:
            _print_new(log, shown)


def _run_ids(folder: Path) -> list[str]:
    try:
        return PackFolder(folder).run_ids()
    except RecordError:  # it is found by its name only
        return []


def _job_logs(pack: PackFolder) -> list[Path]:
    """What setup and Slurm printed in the jobs of a pack: in the last one, or in all if no attempt has started."""
    names = {pack.pack_id}
    with suppress(RecordError):  # a damaged pack has logs too
        names |= {pack.run_ids_and_origin()[1] or pack.pack_id}
    started = bool(pack.attempts())
    found = [
        backend_of(submission.profile).job_log(submission, request, index, started)
        for submission in submissions(pack.path.parent.parent)
        for request in submission.arrays
        for index, name in enumerate(submission.packs[request.first : request.first + request.count])
        if name in names
    ]
    logs = [log for log in found if log]
    return logs[-1:] if started else logs


def _print_new(log: Path, shown: dict[Path, int]) -> bool:
    """Print what `log` has beyond what was shown of it."""
    try:
        with log.open("rb") as file:
            file.seek(shown.get(log, 0))
            text = file.read()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RecordError(f"{log}: cannot be read: {error.strerror}") from error
    if not text:
        return False
    if log not in shown:
        out.print(str(log), style="dim")
    shown[log] = shown.get(log, 0) + len(text)
    out.print(mask(text.decode(errors="replace")), end="")
    return True
