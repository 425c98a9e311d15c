"""`scorer logs`: find a pack and print its logs."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from cli import completion
from cli.console import DEFAULT_OUTPUTS, out
from cli.help import App
from cli.options import Outputs
from scorer_core.records import PackFolder
from scorer_core.support.commands import logs_command
from scorer_core.support.errors import RecordError
from scorer_core.support.files import PACK_NAME
from scorer_core.support.secrets import mask
from slurm.backend import backend_of
from slurm.jobs.policy import halves
from slurm.submissions.submission import submissions

app = App()
POLL_SECONDS = 1.0
STREAMS = ("stdout.log", "stderr.log")


@app.command(epilog="Example: scorer logs 3f2a -f\n\nExample: scorer logs ratio/3f2a --attempt 1")
def logs(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_PACK",
            autocompletion=completion.run_id,
            help="Id of a run or pack, or any unique beginning of it; SWEEP/ID for one sweep; or a pack's folder.",
        ),
    ],
    outputs: Outputs = DEFAULT_OUTPUTS,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Keep printing new output, including later attempts.")
    ] = False,
    attempt: Annotated[int | None, typer.Option(min=1, metavar="N", help="Attempt number (default: the last).")] = None,
) -> None:
    """Print the log of a pack's last attempt, or the Slurm log if no attempt has started."""
    print_logs(find_pack(outputs, name), attempt, follow)


def find_pack(outputs: Path, name: str) -> PackFolder:
    """The pack whose id, or the id of one of its runs, begins with `name`.

    `name` may also be `SWEEP/ID` (several sweeps may have the same pack), or the path of a pack's folder.

    Raises:
        RecordError: if no pack matches, or several.
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
        raise RecordError(
            f"{name}: {f'matches several packs: {names}' if found else 'no such pack or run'} in {outputs}"
        )
    return PackFolder(found[0])


def print_logs(pack: PackFolder, attempt: int | None, follow: bool) -> None:
    """Print the logs of one attempt (default: the last); with `follow`, until the pack is done or has failed.

    Raises:
        RecordError: if there is no such attempt.
    """
    halved = [half.path for half in halves(pack)]
    if halved:
        halves_logs = " and ".join(map(logs_command, halved))
        out.print(f"This pack ran out of memory and was split in two: {halves_logs}")
    places = pack.attempts()
    if attempt is not None:
        places = [place for place in places if int(place.name) == attempt]
        if not places:
            raise RecordError(f"{pack.path}: has no attempt {attempt}")
    shown: dict[Path, int] = {}
    logs = [place / stream for place in places[-1:] for stream in STREAMS]
    if attempt is None:
        logs += _job_logs(pack)  # Slurm writes there why it ended a job
    printed = [_print_new(log, shown) for log in logs]
    if not any(printed) and not follow:
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
    """The Slurm logs of a pack's jobs: of the last job, or of all if no attempt has started."""
    names = {pack.pack_id}
    with suppress(RecordError):  # a damaged pack has logs too
        names |= {pack.run_ids_and_origin()[1] or pack.pack_id}
    started = bool(pack.attempts())
    found = [
        backend_of(submission.profile).job_log(submission, array, index, started)
        for submission in submissions(pack.path.parent.parent)
        for array, index, packs in submission.tasks()
        if names & set(packs)
    ]
    logs = [log for log in found if log]
    return logs[-1:] if started else logs


def _print_new(log: Path, shown: dict[Path, int]) -> bool:
    """Print the part of `log` after the `shown[log]` bytes printed before; whether there was any."""
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
