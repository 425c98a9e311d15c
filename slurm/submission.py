"""The record of a submission, `submissions/<n>/submission.json`: written before Slurm is asked for anything."""

import fcntl
import shlex
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from scorer_core.records import RecordError, Time, first_fault, now, numbered, open_lock, read_json, replace_file
from slurm.profile import Profile

HEARTBEAT_SECONDS = 15.0  # a rename on a shared file system for each pack


class Request(BaseModel):
    """One call of sbatch: an array over `count` tasks from `first` on, or the job that comes last."""

    name: str  # Slurm's name for it, used once ever: by it a job is found whose number was never written down
    first: int = 0
    count: int = 1
    throttle: int | None = None  # tasks running at a time
    job: str | None = None  # Slurm's number, once it has it


class Submission(BaseModel):
    """What was asked for, under which profile, with which code. Task number i of all arrays together is `packs[i]`."""

    folder: Path = Field(exclude=True)
    time: Time = Field(default_factory=now)
    profile: Profile
    code: Path  # the folder jobs run in
    packs: list[str] = []
    command: list[str] | None = None  # of workers, which have no packs
    workers: int = 0
    requests: list[Request] = []
    last: Request | None = None  # draws the report, after all others

    @property
    def name(self) -> str:
        """Unique among all submissions of one sweep; attempts under it share a budget."""
        return self.folder.name

    @property
    def seconds_old(self) -> float:
        return (datetime.fromisoformat(now()) - datetime.fromisoformat(self.time)).total_seconds()

    def write(self) -> None:
        replace_file(self.folder / "submission.json", (self.model_dump_json(indent=1) + "\n").encode())


def setup(submission: Submission) -> list[str]:
    """Shell lines before the process of a job: the profile's, then into the code that was submitted."""
    profile = submission.profile
    exports = [f"export {key}={shlex.quote(value)}" for key, value in profile.environment.items()]
    return [*profile.setup, *exports, f"cd {shlex.quote(str(submission.code))} || exit 1"]


def last_command(submission: Submission) -> list[str]:
    """The process that draws the report when the others have ended."""
    return [sys.executable, "-m", "slurm.finalise", str(submission.folder)]


def submissions(sweep_folder: Path, unreadable: list[str] | None = None) -> list[Submission]:
    """All of a sweep, oldest first. With `unreadable`, those that cannot be read are left out and the reasons added.

    Raises:
        RecordError: if one cannot be read, without `unreadable`.
    """
    found = []
    for folder in numbered(sweep_folder / "submissions"):
        if (folder / "submission.json").exists():
            try:
                found.append(read(folder))
            except RecordError as error:
                if unreadable is None:
                    raise
                unreadable.append(str(error))
    return found


def read(folder: Path) -> Submission:
    """The record in `folder`.

    Raises:
        RecordError: if it cannot be read.
    """
    path = folder / "submission.json"
    content = read_json(path)
    try:
        submission = Submission(folder=folder, **(content or {}))
    except ValidationError as error:
        raise RecordError(f"{path}: is not a submission: {first_fault(error)}") from None
    except TypeError:
        raise RecordError(f"{path}: is not a submission: must hold an object, without 'folder'") from None
    tasks = sum(request.count for request in submission.requests)
    if tasks < len(submission.packs):
        raise RecordError(
            f"{path}: is not a submission: `requests` has {tasks} tasks for {len(submission.packs)} packs"
        )
    return submission


def new(sweep_folder: Path, profile: Profile, code: Path, sizes: Sequence[int], **what: object) -> Submission:
    """A submission that is in no file yet: arrays of `sizes` tasks, throttled together as the profile says."""
    folder = sweep_folder / "submissions"
    number = 1 + max((int(path.name) for path in numbered(folder)), default=0)
    stem = f"scorer-{sweep_folder.name}-{number}-{uuid.uuid4().hex[:6]}"
    requests, first = [], 0
    for index, (size, throttle) in enumerate(zip(sizes, _shares(profile.throttle, sizes), strict=True)):
        requests.append(Request(name=f"{stem}-{index}", first=first, count=size, throttle=throttle))
        first += size
    fields = {"folder": folder / str(number), "profile": profile, "code": code, "requests": requests, **what}
    submission = Submission.model_validate(fields)
    if submission.packs:
        submission.last = Request(name=f"{stem}-report")
    return submission


def _shares(throttle: int | None, sizes: Sequence[int]) -> list[int | None]:
    """The throttle of each array, so that together they keep to `throttle` as near as each running one allows."""
    if throttle is None:
        return [None] * len(sizes)
    share, rest = divmod(throttle, max(1, len(sizes)))
    return [max(1, share + (index < rest)) for index in range(len(sizes))]


@contextmanager
def alone(sweep_folder: Path) -> Iterator[None]:
    """While this lasts no other process submits to, or cancels in, this sweep; a second one waits its turn."""
    with open_lock(sweep_folder / "submissions" / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
