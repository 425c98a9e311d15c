"""The record of a submission, `submissions/<n>/submission.json`. It is written before sbatch is called."""

import shlex
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from scorer_core.record_forms import Time, first_fault, now
from scorer_core.support.commands import command, shown_path
from scorer_core.support.errors import RecordError
from scorer_core.support.files import numbered, read_json, replace_file
from scorer_core.support.locks import Lock
from scorer_core.support.text import count
from scorer_core.support.waiting import waiting
from slurm.profile import Profile, profiles
from slurm.submissions.snapshot import CODE

ENVIRONMENT = "environment.sh"  # in the folder of a submission: the values of the profile's variables
PRIVATE = 0o600
HEARTBEAT_SECONDS = 15.0  # each heartbeat renames a file per pack on a shared file system


class JobArray(BaseModel):
    """One call of sbatch: an array of `count` tasks from number `first` on, or the job that draws the report."""

    name: str  # Slurm's name for it, used only once: it finds a job whose id was not recorded
    first: int = 0
    count: int = 1
    throttle: int | None = None  # tasks running at a time
    behind: int | None = None  # the array, by its place in `arrays`, that must end before this one starts
    after: list[str] = []  # jobs that must end before it starts
    job: str | None = None  # Slurm's id, once it has one


class Submission(BaseModel):
    """What was submitted, under which profile, with which code. `share` says which packs a task trains.

    `arrays` and `report_job` have other names in the file, because jobs in the queue may run an older version.
    """

    model_config = ConfigDict(populate_by_name=True, defer_build=True)

    folder: Path = Field(exclude=True)
    time: Time = Field(default_factory=now)
    profile: Profile
    code: Path  # the folder jobs run in
    packs: list[str] = []
    command: list[str] | None = None  # of workers, which have no packs
    workers: int = 0
    arrays: list[JobArray] = Field(
        default=[], validation_alias=AliasChoices("arrays", "requests"), serialization_alias="requests"
    )
    report_job: JobArray | None = Field(  # starts after all arrays
        default=None, validation_alias=AliasChoices("report_job", "last"), serialization_alias="last"
    )
    after: list[str] = []  # jobs that must end before any array starts: `--after`, and earlier arrays of the sweep
    environment: list[str] = []  # names of the profile's variables; only ENVIRONMENT has their values

    @property
    def sweep_folder(self) -> Path:
        """The folder of the sweep or search that this submission belongs to."""
        return self.folder.parent.parent

    @property
    def name(self) -> str:
        """The number of the submission, unique within a sweep. `max_attempts` applies to each submission."""
        return self.folder.name

    @property
    def seconds_old(self) -> float:
        return (datetime.fromisoformat(now()) - datetime.fromisoformat(self.time)).total_seconds()

    def share(self, array: JobArray, index: int) -> list[str]:
        """The packs that task `index` of `array` trains: as many as any other task, or one more or less."""
        return self._packs_of_tasks(array.first + index, 1, self._number_of_tasks)

    def tasks(self) -> Iterator[tuple[JobArray, int, list[str]]]:
        """Each task: its array, its index in the array, and its packs."""
        tasks = self._number_of_tasks
        for array in self.arrays:
            for index in range(array.count):
                yield array, index, self._packs_of_tasks(array.first + index, 1, tasks)

    def packs_of(self, array: JobArray) -> list[str]:
        """The packs of all tasks of `array`."""
        return self._packs_of_tasks(array.first, array.count, self._number_of_tasks)

    @property
    def _number_of_tasks(self) -> int:
        return sum(array.count for array in self.arrays)

    def _packs_of_tasks(self, first: int, count: int, tasks: int) -> list[str]:
        return self.packs[len(self.packs) * first // tasks : len(self.packs) * (first + count) // tasks]

    @property
    def accepted(self) -> int:
        """How many packs are in arrays that Slurm has accepted."""
        return sum(len(self.packs_of(array)) for array in self.arrays if array.job)

    @property
    def all_arrays(self) -> list[JobArray]:
        """The arrays, and the report job if there is one."""
        return [*self.arrays, *([self.report_job] if self.report_job else [])]

    def write(self) -> None:
        """Write the record and, if known, the values of the profile's variables. Only the user can read these files."""
        if self.profile.environment:
            lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self.profile.environment.items()]
            replace_file(self.folder / ENVIRONMENT, "".join(lines).encode(), PRIVATE)
            self.environment = list(self.profile.environment)
        hidden = {"environment"}
        if self.profile.packs_per_job == 1:
            hidden.add("packs_per_job")  # jobs in the queue may run an older version, which does not know it
        content = self.model_dump_json(indent=1, exclude={"profile": hidden, "folder": True}, by_alias=True)
        replace_file(self.folder / "submission.json", (content + "\n").encode(), PRIVATE)

    def whole_profile(self) -> Profile:
        """The profile, including the values of its environment variables.

        Raises:
            RecordError: if the file with the values cannot be read.
        """
        if self.profile.environment or not self.environment:
            return self.profile
        path = self.folder / ENVIRONMENT
        try:
            words = shlex.split(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            names = ", ".join(self.environment)
            raise RecordError(
                f"{path}: cannot be read: {reason}; it has the values of {names}; use --profile"
            ) from None
        environment = dict(word.split("=", 1) for word in words if "=" in word)
        return self.profile.model_copy(update={"environment": environment})


# A signal also ends a command of setup. A job that received a signal has not failed.
CHECK_SETUP = """\
check_setup() {
  [ "$1" = 0 ] || [ -n "${received:-}" ] || { echo "setup line $2 failed with exit code $1: $3" >&2; exit 1; }
}"""


def setup(submission: Submission) -> list[str]:
    """Shell lines before the process of a job: the profile's setup, each line checked, then `cd` to the snapshot.

    They make Python import the snapshot: PYTHONPATH may name another copy, PYTHONSAFEPATH stops imports from the
    current folder, PYTHONHOME belongs to another Python, and PYTHONINSPECT loses the exit code.
    """
    profile, code = submission.profile, shlex.quote(str(submission.code))
    lines = [CHECK_SETUP] if profile.setup else []
    for number, line in enumerate(profile.setup, 1):
        lines += [line, f"check_setup $? {number} {shlex.quote(line)}"]
    if profile.environment or submission.environment:
        lines.append(f". {shlex.quote(str(submission.folder / ENVIRONMENT))} || exit 1")
    lines += ["unset PYTHONSAFEPATH PYTHONHOME PYTHONINSPECT", f"export PYTHONPATH={code}${{PYTHONPATH:+:$PYTHONPATH}}"]
    return [*lines, f"export {CODE}={code}", f"cd {code} || exit 1"]


def report_command(submission: Submission) -> list[str]:
    """The command that draws the report after all packs."""
    return [sys.executable, "-m", "slurm.jobs.draw_report", str(submission.folder)]


def submit_command(sweep_folder: Path, sent: Sequence[Submission]) -> str:
    """The command that submits the remaining runs of this sweep, with the profile of the last of `sent`."""
    profile = sent[-1].profile.name if sent and sent[-1].profile.name in profiles() else "PROFILE"
    return command("submit", shown_path(sweep_folder), "--profile", profile)


def submissions(sweep_folder: Path, unreadable: list[str] | None = None) -> list[Submission]:
    """All submissions of a sweep, oldest first.

    With `unreadable`, records that cannot be read are left out and the reasons added.

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
    """Read the record in `folder`.

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
    tasks, packs = sum(array.count for array in submission.arrays), len(submission.packs)
    if packs and not (packs if submission.profile.packs_per_job == 1 else 1) <= tasks <= packs:
        raise RecordError(
            f"{path}: is not a submission: `requests` has {count(tasks, 'task')} for {count(packs, 'pack')}"
        )
    return submission


def new(
    sweep_folder: Path, profile: Profile, code: Path, sizes: Sequence[int], throttle: int | None = None, **what: object
) -> Submission:
    """A submission that is not on disk yet, with arrays of `sizes` tasks that share the throttle.

    `throttle` replaces that of the profile, of which earlier arrays of the sweep may use a part.
    """
    folder = sweep_folder / "submissions"
    number = 1 + max((int(path.name) for path in numbered(folder)), default=0)
    stem = f"scorer-{sweep_folder.name}-{number}-{uuid.uuid4().hex[:6]}"
    fields = {"folder": folder / str(number), "profile": profile, "code": code, **what}
    submission = Submission.model_validate(fields)
    first = 0
    for index, (size, (share, behind)) in enumerate(
        zip(sizes, split_throttle(throttle or profile.throttle, len(sizes)), strict=True)
    ):
        name = f"{stem}-{index}"
        array = JobArray(name=name, first=first, count=size, throttle=share, behind=behind, after=submission.after)
        submission.arrays.append(array)
        first += size
    if submission.packs:
        submission.report_job = JobArray(name=f"{stem}-report")
    return submission


def note_job_ids(submission: Submission, jobs: Mapping[str, str]) -> int:
    """Add the job ids in `jobs` (by name) that `submission` lacks; how many they are. The caller writes the record."""
    missing = [array for array in submission.all_arrays if not array.job and jobs.get(array.name)]
    for array in missing:
        array.job = jobs[array.name]
    return len(missing)


def split_throttle(throttle: int | None, arrays: int) -> list[tuple[int | None, int | None]]:
    """For each array: its throttle, and the earlier array that must end before it starts.

    Each array needs a throttle of at least 1. If there are more arrays than `throttle`, some wait for others.
    """
    if throttle is None:
        return [(None, None)] * arrays
    at_once = min(throttle, arrays)
    return [
        (throttle // at_once + (i % at_once < throttle % at_once), i - at_once if i >= at_once else None)
        for i in range(arrays)
    ]


@contextmanager
def sweep_lock(sweep_folder: Path) -> Iterator[None]:
    """Lock the sweep for commands that submit or cancel; a second such command waits."""
    lock = Lock(sweep_folder / "submissions" / "lock")
    with waiting("another scorer command that submits to or cancels in this sweep"):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
