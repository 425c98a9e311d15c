"""What a run leaves behind: the folder of a pack, its metrics, its commits, its state and its provenance.

    packs/<pack_id>/
      pack.json                   run ids and configurations
      state.json                  heartbeat: attempt, phase, step, steps/s (replaced, never appended to)
      lock                        held by the one process that may write here
      attempts/<n>/               stdout.log, stderr.log, provenance.json
      checkpoint/<step>.ckpt      the last two commits
      metrics/part-<step>.parquet one part a commit: the rows since the commit before
      done.json                   the finished runs, and the metrics parts with their SHA-256

A commit is a metrics part, then a checkpoint that lists every part up to it with its SHA-256: a part no checkpoint
lists was never committed and is dropped on resume. Every write is temp + fsync + `os.replace`. docs/records.md says
what each damage leads to. No torch here.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import socket
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import IO, Annotated, Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, AliasChoices, BaseModel, Field, TypeAdapter, ValidationError

from scorer_core import identity
from scorer_core.config import RunConfig
from scorer_core.identity import pack_id
from scorer_core.support.errors import RecordError

# Read at `step`, at some of the log points (diagnostics.points), off a probe batch that stays the same; else NaN.
DIAGNOSTICS = (
    "probe_msbe",
    "probe_be_variance",
    "srank",  # singular values that hold 99 % of the features' sum
    "effective_rank",  # exp of the entropy of the features' singular values
    "dormant",  # share of hidden units that hardly act
    "feature_norm",
    "feature_cosine",  # mean over pairs of states
    "phi_norm",
    "theta_norm",
    "phi_distance",  # from initialisation
    "theta_distance",
    "gradient_cosine",  # for the perception: the leader's objective with the follower's
    "q_max",
    "q_bias",  # action values minus the discounted returns that followed
    "effective_ratio",  # norm of the follower's last step / the leader's
)
# Means over the interval that ends at `step`, except where a comment says otherwise.
METRICS = (
    "return",  # at `step`: mean over environments of the last finished episode; NaN before the first one has ended
    "episodes",  # at `step`: episodes finished so far, all environments together
    "td_error",
    "msbe",
    "be_variance",
    "leader_loss",
    "follower_loss",
    "leader_grad_norm",  # before clipping
    "follower_grad_norm",
    "leader_lr",
    "follower_lr",
    "epsilon",
    "target_drift",  # at each copy to the targets: how far they move, of their own norm; NaN without a copy
    *DIAGNOSTICS,
)
MEASURED = ("steps_per_second",)  # of the whole pack, by the clock: the one column a resumed run does not repeat
SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.dictionary(pa.int32(), pa.string())),
        pa.field("step", pa.int64()),  # environment steps so far
        *(pa.field(name, pa.float32()) for name in METRICS),
        pa.field("diverged", pa.bool_()),  # something of this run is not finite any more
        *(pa.field(name, pa.float32()) for name in MEASURED),
    ]
)

KEPT_COMMITS = 2
SWEEP_FOLDERS = ("packs", "submissions", "code", "report", "imported", "batches", "workers")
FOLDERS_OF_A_SWEEP = 5  # between a file and the folder of its sweep, at most
HALVED = "halved.json"  # names the two packs that replaced a pack which ran out of memory
PACK_NAME = re.compile(r"[0-9a-f]{16}")
PART_NAME = re.compile(r"part-[0-9]+\.parquet")
Record = TypeVar("Record")

log = logging.getLogger("scorer")


class MovedError(RecordError):
    """The folder of a pack, or its lock, is not where it was when the lock was taken; nothing is written there."""


class DamagedError(RecordError):
    """A checkpoint or metrics part that is missing, or is not what was written."""


# --- what each record must hold; fields of a newer version are ignored ---


def _time(value: str) -> str:
    if datetime.fromisoformat(value).tzinfo is None:
        raise ValueError("has no time zone")
    return value


Time = Annotated[str, AfterValidator(_time)]  # as `now` writes it
Whole = Annotated[int, Field(ge=0, lt=2**63)]


class PackRecord(BaseModel):
    """pack.json"""

    schema_version: Annotated[int, Field(alias="schema")] = 1  # of the run ids
    compiled: bool = False
    halved_from: str | None = None
    runs: dict[str, dict[str, Any]] = {}

    @property
    def of_version_1(self) -> bool:
        """Did version 0.1 write it? Its run ids are of another schema, and its returns count 0 before an episode."""
        return self.schema_version < identity.SCHEMA_VERSION


class RunResult(BaseModel):
    """One run in done.json."""

    status: Literal["done", "diverged", "pruned", "failed", "divided"]  # the last three are of a search
    verdicts: list[str] = []


class DoneRecord(BaseModel):
    """done.json"""

    finished: str = ""
    runs: dict[str, RunResult]
    parts: dict[str, str] | None = None  # SHA-256 of each metrics part; version 0.1 did not record it


class StateRecord(BaseModel):
    """state.json"""

    time: Time
    host: str = ""
    pid: int = 0
    phase: str = ""
    step: Whole = 0
    total_steps: Whole = 0
    lanes: Whole = 0
    steps_per_second: float | None = None
    attempt: int = 0
    submission: str = Field(default="", validation_alias=AliasChoices("submission", "series"))  # version 0.1: series
    starts: list[int] = []
    error: str = ""


class ProvenanceRecord(BaseModel):
    """attempts/<n>/provenance.json"""

    started: str = ""
    argv: list[str] = []
    host: str = ""
    platform: str = ""
    device: str = ""
    slurm_job_id: str | None = None
    git_commit: str | None = None
    git_diff: str | None = None
    git_error: str | None = None
    masked_lines: list[str] = []
    python: str = ""
    packages: dict[str, str] = {}


class HalvedRecord(BaseModel):
    """halved.json"""

    into: list[str]


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """The content of `path`, checked; None if there is no such file.

    Raises:
        RecordError: if the file cannot be read or has another form; the message names the file and the field.
    """
    try:
        return _reader(kind).validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise RecordError(f"{path}: {first_fault(error)}") from None


@cache
def _reader(kind: type[Record]) -> TypeAdapter[Record]:
    return TypeAdapter(kind)


def first_fault(error: ValidationError) -> str:
    """The first fault that pydantic found, in one line: the field, then what is wrong with it."""
    fault = error.errors(include_url=False)[0]
    field = "".join(f"{part}: " for part in [".".join(map(str, fault["loc"]))] if part)
    message = " ".join(fault["msg"].removeprefix("Value error, ").split())
    if fault["type"] == "json_invalid":
        return f"cannot be read: {message}"
    if fault["type"] == "extra_forbidden":
        return f"unknown field {field.removesuffix(': ')}; written by a newer version?"
    return f"{field}{message[:1].lower()}{message[1:]}"


def numbered(folder: Path) -> list[Path]:
    """The entries of `folder` whose whole name is a number, the smallest first; none if there is no such folder."""
    try:
        found = [path for path in folder.iterdir() if path.name.isascii() and path.name.isdecimal()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RecordError(f"{folder}: cannot be read: {error.strerror}") from error
    return sorted(found, key=lambda path: int(path.name))


def replace_file(path: Path, content: bytes | pa.Buffer, mode: int = 0o666) -> None:
    """Write `content` to `path` so that a reader, or a crash, sees the old file or the new one and nothing between.

    The new file has the permissions in `mode` that the umask allows and that the old file, if there is one, had.

    Raises:
        RecordError: if the file system refuses (full, read-only, ...), or a link leads out of the sweep's folder.
    """
    refuse_links(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            mode &= path.lstat().st_mode
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:  # noqa: PTH123
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105, the name every reader knows
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise RecordError(f"{path}: cannot be written: {error.strerror}") from error


def refuse_links(path: Path) -> None:
    """Make sure that what is written to `path` stays in the folder of its sweep, which may be a link itself.

    Raises:
        RecordError: if `path`, or a folder between it and the sweep's, is a link that leads out of the sweep's.
    """
    sweep = _sweep_of(path)
    if sweep is None:
        return
    for entry in reversed([*takewhile(lambda entry: entry != sweep, (path, *path.parents))]):
        if entry.is_symlink() and not entry.resolve().is_relative_to(sweep.resolve()):
            raise RecordError(f"{entry}: is a link that leads out of {sweep}; put the file or folder itself there")


def _sweep_of(path: Path) -> Path | None:
    """The folder of the sweep that `path` belongs to; None if it belongs to none, or stands directly in the folder."""
    below = ""
    for entry in (path, *path.parents[:FOLDERS_OF_A_SWEEP]):
        sweep = entry.parent
        if entry.name == "packs" and PACK_NAME.fullmatch(below):
            return sweep
        if entry.name in SWEEP_FOLDERS and any((sweep / name).exists() for name in ("sweep.yaml", "search.yaml")):
            return sweep
        below = entry.name
    return None


def write_json(path: Path, value: Any) -> None:
    replace_file(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path) -> Any:
    """The content of `path`, None if there is no such file.

    Raises:
        RecordError: if it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: cannot be read: {error}") from error


@dataclass(frozen=True)
class Commit:
    step: int
    parts: dict[str, str]  # the metrics parts up to `step`: name and SHA-256
    checkpoint: bytes


class PackFolder:
    """The folder of one pack; reading is open to all, writing to whoever holds `lock`."""

    def __init__(self, path: Path):
        self.path = path
        self._committed: dict[str, str] | None = None  # the parts of the last commit, once this process has read it
        self._lock: IO[bytes] | None = None  # while this process holds it

    @classmethod
    def create(cls, packs: Path, configs: Sequence[RunConfig], compiled: bool = False, **notes: Any) -> "PackFolder":
        """The folder of a new pack; whether it is compiled is settled here, for all its attempts."""
        folder = cls(packs / pack_id([config.run_id for config in configs]))
        runs = {config.run_id: config.model_dump(mode="json") for config in configs}
        version = {"schema": identity.SCHEMA_VERSION}
        write_json(folder.path / "pack.json", version | {"compiled": compiled, **notes, "runs": runs})
        return folder

    @property
    def pack_id(self) -> str:
        return self.path.name

    def configs(self) -> list[RunConfig]:
        """In the order of the pack's lanes."""
        return list(self._recorded(self._pack()).values())

    def run_ids(self) -> list[str]:
        """In the order of the pack's lanes."""
        return list(self._names(self._pack()).values())

    def run_ids_and_origin(self) -> tuple[list[str], str | None]:
        """`run_ids`, and the id of the pack that this one is a half of; from one read of pack.json."""
        pack = self._pack()
        return list(self._names(pack).values()), pack.halved_from

    def known_runs(self) -> set[str]:
        """The runs of a pack that may be damaged, by the record that can be read; empty if none can."""
        with suppress(RecordError):
            return set(self.run_ids())
        with suppress(RecordError):
            done = self._done()
            return set(done.runs) if done else set()
        return set()

    def _recorded(self, pack: PackRecord) -> dict[str, RunConfig]:
        """Configurations by the run ids in the pack's files."""
        try:
            recorded = {run_id: RunConfig(**settings) for run_id, settings in pack.runs.items()}
        except ValidationError as error:
            raise RecordError(f"{self.path / 'pack.json'}: {first_fault(error)}") from None
        for run_id, config in recorded.items():
            if not pack.of_version_1 and config.run_id != run_id:
                raise RecordError(f"{self.path / 'pack.json'}: damaged: run {run_id} has another run's configuration")
        return recorded

    def _names(self, pack: PackRecord) -> dict[str, str]:
        """Run ids, by the run ids in the pack's files: other ones if version 0.1 wrote them.

        A run for which version 0.1 had another result, or that equals another run of the pack, keeps its old id, which
        no definition asks for.
        """
        if not pack.of_version_1:
            return {run_id: run_id for run_id in pack.runs}
        names: dict[str, str] = {}
        for recorded, config in self._recorded(pack).items():
            new = not identity.computes_otherwise_since_version_1(config) and config.run_id not in names.values()
            names[recorded] = config.run_id if new else recorded
        return names

    def compiled(self) -> bool:
        return self._pack().compiled

    def _pack(self) -> PackRecord:
        pack = read_record(self.path / "pack.json", PackRecord)
        if not pack or not pack.runs:
            raise RecordError(f"{self.path / 'pack.json'}: missing, or names no run")
        if pack_id(list(pack.runs)) != self.pack_id:
            raise RecordError(f"{self.path / 'pack.json'}: damaged: the folder is named after other runs")
        return pack

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """True while this process alone may write here, False if another holds the folder.

        Raises:
            RecordError: if there is no such folder, or the lock cannot be opened.
        """
        if not self.path.is_dir():
            raise MovedError(f"{self.path}: there is no such folder; it was moved or removed")
        with open_lock(self.path / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            self._lock = file
            try:
                yield True
            finally:
                self._lock = None

    def _check_place(self) -> None:
        """Make sure that what the holder of the lock writes to this path goes into the folder that it locked.

        Raises:
            MovedError: if the folder was renamed, moved or removed since.
        """
        if self._lock and not is_still_at(self._lock, self.path / "lock"):
            raise MovedError(
                f"{self.path}: this folder, or the lock in it, was moved or removed while its runs were trained; what "
                "was committed stays in the moved folder"
            )

    # --- done ---

    def done(self) -> dict[str, dict[str, Any]]:
        """Finished runs, each with its `status`, `done` or `diverged`, and its `verdicts`."""
        done = self._done()
        if not done:
            return {}
        names = self._names(self._pack())
        return {names.get(name, name): run.model_dump(exclude_unset=True) for name, run in done.runs.items()}

    def _done(self) -> DoneRecord | None:
        return read_record(self.path / "done.json", DoneRecord)

    def finish(self, statuses: Mapping[str, dict[str, Any]]) -> None:
        """Name every run finished, and list the metrics parts; then the checkpoints are of no more use.

        Raises:
            RecordError: if a committed part is damaged, or done.json cannot be written.
            MovedError: if the folder was moved since it was locked.
        """
        self._check_place()
        parts = {name: self._check_part(name, checksum) for name, checksum in self._committed_parts().items()}
        write_json(self.path / "done.json", {"finished": now(), "runs": statuses, "parts": parts})
        for checkpoint in (self.path / "checkpoint").glob("*.ckpt*"):  # those that were set aside too
            if not checkpoint.is_dir():
                checkpoint.unlink()

    def reopen(self) -> None:
        """Remove done.json, for a pack whose runs a search ended early and now trains again."""
        (self.path / "done.json").unlink(missing_ok=True)

    # --- state ---

    @property
    def cancelled(self) -> bool:
        """Has its user asked that it be trained no further? Asked for again, it is no longer so."""
        return (self.path / "cancelled").exists()

    def mark_cancelled(self, cancelled: bool) -> None:
        if cancelled:
            replace_file(self.path / "cancelled", f"{now()}\n".encode())
        else:
            (self.path / "cancelled").unlink(missing_ok=True)

    def state(self) -> dict[str, Any]:
        """The last heartbeat; empty before the first."""
        state = read_record(self.path / "state.json", StateRecord)
        return state.model_dump(exclude_unset=True) if state else {}

    def write_state(self, **state: Any) -> None:
        """Replace the heartbeat.

        Raises:
            RecordError: if it cannot be written.
            MovedError: if the folder was moved since it was locked.
        """
        self._check_place()
        write_json(self.path / "state.json", {"time": now(), "host": socket.gethostname(), "pid": os.getpid(), **state})

    # --- attempts ---

    def new_attempt(self) -> Path:
        """The folder of a new attempt; their numbers count the starts of this pack."""
        attempts = self.path / "attempts"
        for name in ("checkpoint", "metrics"):  # an attempt removes what was not committed there
            refuse_links(self.path / name)
        refuse_links(attempts)
        number = 1 + max((int(entry.name) for entry in numbered(attempts)), default=0)
        (attempts / str(number)).mkdir(parents=True)
        return attempts / str(number)

    def attempts(self) -> list[Path]:
        """The folders of the attempts, the first one first."""
        return [entry for entry in numbered(self.path / "attempts") if entry.is_dir()]

    def provenance(self) -> dict[str, Any]:
        """Of the last attempt; empty before the first."""
        written = [attempt for attempt in self.attempts() if (attempt / "provenance.json").exists()]
        return read_provenance(written[-1]) if written else {}

    # --- commits ---

    def commit(self, step: int, rows: pa.Table, checkpoint: bytes) -> None:
        """Make everything up to `step` durable: the new metric rows, then the checkpoint that lists their part.

        Raises:
            RecordError: if it cannot be written.
            MovedError: if the folder was moved since it was locked.
        """
        self._check_place()
        if self._committed is None:
            self._committed = self._committed_parts()
        parts = dict(self._committed)
        if rows.num_rows:
            sink = pa.BufferOutputStream()
            pq.write_table(rows, sink, compression="zstd", write_page_checksum=True)
            content = sink.getvalue()
            replace_file(self.path / "metrics" / f"part-{step:014d}.parquet", content)
            parts[f"part-{step:014d}.parquet"] = hashlib.sha256(content).hexdigest()
        header = json.dumps({"step": step, "parts": parts}).encode() + b"\n"
        payload = header + checkpoint
        checksum = hashlib.sha256(payload).hexdigest().encode()
        replace_file(self.path / "checkpoint" / f"{step:014d}.ckpt", checksum + b"\n" + payload, 0o644)
        self._committed = parts
        for old in self._checkpoints()[:-KEPT_COMMITS]:
            old.unlink()

    def last_commit(self) -> Commit | None:
        """The newest commit that is whole, everything after it dropped; None to begin from step 0.

        A checkpoint that is damaged, or one of whose metrics parts is, is set aside with a warning.

        Raises:
            RecordError: if a part cannot be read though it is there; nothing is dropped then.
        """
        checkpoints = self._checkpoints()
        for path in reversed(checkpoints):
            try:
                commit = self._read_checkpoint(path)
            except DamagedError as error:
                log.warning("%s; going back to the commit before", error)
                _set_aside(path)
            else:
                self._drop_parts_but(commit.parts)
                self._committed = commit.parts
                return commit
        parts = self.parts()
        if checkpoints or parts:
            told = "%s: no commit is whole: %d metrics parts are dropped, and training starts again from step 0"
            log.warning(told, self.path, len(parts))
        self._drop_parts_but([])
        self._committed = {}
        return None

    def _drop_parts_but(self, committed: Collection[str]) -> None:
        for part in self.parts():
            if part.name not in committed:
                _set_aside(part) if part.is_dir() else part.unlink()

    def _read_checkpoint(self, path: Path) -> Commit:
        try:
            checksum, _, payload = path.read_bytes().partition(b"\n")
        except OSError as error:
            raise DamagedError(f"{path}: cannot be read: {error.strerror}") from error
        if hashlib.sha256(payload).hexdigest().encode() != checksum:
            raise DamagedError(f"{path}: corrupt checkpoint")
        header, _, checkpoint = payload.partition(b"\n")
        step, listed = _read_header(header, path)
        try:
            parts = {name: self._check_part(name, expected) for name, expected in listed.items()}
        except DamagedError as error:
            raise DamagedError(f"{path}: cannot be used: {error}") from error
        return Commit(step, parts, checkpoint)

    def committed_step(self) -> int:
        """Where the next attempt will begin, if the newest checkpoint is whole."""
        return max((int(path.stem) for path in self._checkpoints()), default=0)

    def _checkpoints(self) -> list[Path]:
        found = (self.path / "checkpoint").glob("*.ckpt")
        return sorted((path for path in found if path.stem.isdecimal()), key=lambda path: int(path.stem))

    # --- metrics ---

    def rows(self, columns: Sequence[str], run_ids: Collection[str] | None = None) -> pa.Table:
        """The committed metric rows: `run_id`, `step` and `columns`, sorted by run and step; of `run_ids` if given.

        A metric that an older version did not log is NaN. Version 0.1 logged 0 before an environment's first episode
        ended: its returns are NaN as long as the run has finished fewer episodes than it has environments.

        Raises:
            RecordError: if done.json cannot be read, or a part that it or the newest checkpoint lists is missing or
                damaged, or a row occurs twice.
        """
        schema = pa.schema([SCHEMA.field(name) for name in dict.fromkeys(("run_id", "step", *columns))])
        parts = self._committed_parts()
        if not parts:
            return schema.empty_table()
        pack, read = self._pack(), schema
        if pack.of_version_1 and "return" in columns and "episodes" not in columns:
            read = schema.append(SCHEMA.field("episodes"))
        tables = [self._read_part(name, checksum, read) for name, checksum in parts.items()]
        table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        if not table.num_rows:
            return schema.empty_table()
        if pack.of_version_1:
            table = self._from_version_1(table).select(schema.names)
        owners, steps = table["run_id"].chunk(0), table["step"].to_numpy()
        names = np.array(owners.dictionary.to_pylist())
        runs = np.argsort(np.argsort(names))[owners.indices.to_numpy()]  # the place of each row's run among the runs
        order = np.lexsort((steps, runs))
        twice = np.flatnonzero((np.diff(runs[order]) == 0) & (np.diff(steps[order]) == 0))
        if twice.size:
            row = order[twice[0]]
            raise RecordError(f"{self.path / 'metrics'}: run {owners[row].as_py()} has two rows for step {steps[row]}")
        if run_ids is not None:
            order = order[np.isin(names, list(run_ids))[owners.indices.to_numpy()][order]]
        return table.take(pa.array(order))

    def _from_version_1(self, table: pa.Table) -> pa.Table:
        """Rows of version 0.1 with the run ids of this version, and without returns of 0 that nobody earned."""
        names, owners = self._names(self._pack()), table["run_id"].chunk(0)
        renamed = pa.array([names.get(name, name) for name in owners.dictionary.to_pylist()], pa.string())
        owners = pa.DictionaryArray.from_arrays(owners.indices, renamed)
        table = table.set_column(table.column_names.index("run_id"), SCHEMA.field("run_id"), owners)
        if "return" in table.column_names:
            unknown = table["episodes"].to_numpy() < self.configs()[0].num_envs
            returns = pa.array(np.where(unknown, np.float32("nan"), table["return"].to_numpy()))
            table = table.set_column(table.column_names.index("return"), SCHEMA.field("return"), returns)
        return table

    def last_row(self, run_id: str) -> dict[str, Any]:
        """The newest committed metrics of one run; empty before its first commit."""
        rows = self.rows(SCHEMA.names, [run_id])
        return rows.slice(rows.num_rows - 1).to_pylist()[0] if rows.num_rows else {}

    def verify(self) -> None:
        """Compare done.json with pack.json and with the parts on disk, and every committed part with its checksum.

        Raises:
            RecordError: if they differ, or a part is missing or damaged; the message names the file.
        """
        self.verify_results()
        done = self._done()
        if done and done.parts is not None and (left := {part.name for part in self.parts()} - done.parts.keys()):
            raise RecordError(f"{self.path / 'done.json'}: damaged: does not list the metrics part {min(left)}")
        for name, checksum in self._committed_parts().items():
            self._check_part(name, checksum)

    def verify_results(self) -> None:
        """Compare the runs in done.json with those in pack.json.

        Raises:
            RecordError: if pack.json does not have all of them.
        """
        strange = self.done().keys() - set(self.run_ids())
        if strange:
            raise RecordError(f"{self.path / 'done.json'}: damaged: pack.json has no run {min(strange)}")

    def parts(self) -> list[Path]:
        """The parts on disk, committed or not."""
        return sorted(path for path in (self.path / "metrics").glob("part-*.parquet") if PART_NAME.fullmatch(path.name))

    def _committed_parts(self) -> dict[str, str]:
        """The committed parts, each with its SHA-256 ("" where version 0.1 recorded none).

        done.json lists the parts of a finished pack, the newest readable checkpoint those of an unfinished one.
        """
        for _ in range(2):  # another process may write done.json and remove the checkpoints in between
            done = self._done()
            if done:
                return dict.fromkeys((part.name for part in self.parts()), "") if done.parts is None else done.parts
            for path in reversed(self._checkpoints()):
                with suppress(OSError, DamagedError), path.open("rb") as file:
                    file.readline()
                    return _read_header(file.readline(), path)[1]
        return {}

    def _check_part(self, name: str, checksum: str) -> str:
        """The checksum of a part that is whole."""
        if not checksum:
            self._read_part(name, checksum, SCHEMA)
        return hashlib.sha256(self._part_content(name, checksum)).hexdigest()

    def _part_content(self, name: str, checksum: str) -> bytes:
        path = self.path / "metrics" / name
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

    def _read_part(self, name: str, checksum: str, schema: pa.Schema) -> pa.Table:
        content = self._part_content(name, checksum)
        path = self.path / "metrics" / name
        try:
            file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
            there = set(file.schema_arrow.names)
            table = file.read([column for column in schema.names if column in there], use_threads=False)
            for field in schema:
                if field.name not in there and field.name not in METRICS:
                    raise DamagedError(f"{path}: damaged: has no column {field.name}")
                if field.name not in there:
                    table = table.append_column(field, pa.array(np.full(table.num_rows, np.nan, np.float32)))
            if not table.schema.equals(schema):
                table = table.select(schema.names).cast(schema)
            if not checksum:
                table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DamagedError(f"{path}: damaged: {' '.join(str(error).split())[:120]}") from error
        if table["run_id"].null_count or table["step"].null_count:
            raise DamagedError(f"{path}: damaged: a row without run or step")
        return table


def read_provenance(attempt: Path) -> dict[str, Any]:
    """What the attempt in this folder recorded about its code and machine; empty if it recorded nothing."""
    found = read_record(attempt / "provenance.json", ProvenanceRecord)
    return found.model_dump(exclude_unset=True) if found else {}


def _read_header(header: bytes, path: Path) -> tuple[int, dict[str, str]]:
    """The step of a checkpoint, and the metrics parts that it lists; version 0.1 lists them without checksums."""
    try:
        content = json.loads(header)
        step, parts = content["step"], content["parts"]
        return int(step), dict(parts) if isinstance(parts, dict) else dict.fromkeys(map(str, parts), "")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise DamagedError(f"{path}: corrupt checkpoint") from error


def _set_aside(path: Path) -> None:
    """Rename a damaged file or folder, so that it is in nobody's way and nothing is lost."""
    path.rename(path.with_name(f"{path.name}.{uuid.uuid4().hex[:4]}.damaged"))


def open_lock(path: Path) -> IO[bytes]:
    """The file at `path`, made if there is none; no content is changed, and no link is followed.

    Raises:
        RecordError: if it cannot be opened.
    """
    return os.fdopen(_open(path, os.O_RDWR), "r+b")


def is_still_at(file: IO[bytes], path: Path) -> bool:
    """Is `file`, which was opened at `path`, still there? Not if it, or a folder above it, was moved or removed.

    Raises:
        RecordError: if the file system does not tell.
    """
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error


def open_log(path: Path) -> IO[bytes]:
    """The file at `path`, made if there is none, to be appended to; no link is followed.

    Raises:
        RecordError: if it cannot be opened.
    """
    return os.fdopen(_open(path, os.O_WRONLY | os.O_APPEND), "ab", buffering=0)


def _open(path: Path, flags: int) -> int:
    refuse_links(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        reason = "is a link; remove it" if path.is_symlink() else f"cannot be opened: {error.strerror}"
        raise RecordError(f"{path}: {reason}") from error


def pack_folders(packs: Path) -> list[PackFolder]:
    """Every pack under `packs`, by name: folders named by a pack id, but for those that halves have replaced."""
    return [PackFolder(path) for path in _folders(packs) if PACK_NAME.fullmatch(path.name) and _holds_pack(path)]


def _holds_pack(path: Path) -> bool:
    if (path / "pack.json").exists():
        return True
    begun = any((path / name).exists() for name in ("done.json", "state.json", "checkpoint"))
    return begun and not (path / HALVED).exists()


def other_folders(packs: Path) -> list[Path]:
    """Folders under `packs` that are not named by a pack id: copies, for instance. No command reads them."""
    return [path for path in _folders(packs) if not path.name.startswith(".") and not PACK_NAME.fullmatch(path.name)]


def _folders(packs: Path) -> list[Path]:
    try:
        return sorted(path for path in packs.iterdir() if path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RecordError(f"{packs}: cannot be read: {error.strerror}") from error


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
