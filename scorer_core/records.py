"""What a run leaves behind: the folder of a pack, its metrics, its commits, its state and its provenance.

    packs/<pack_id>/
      pack.json                   run ids and configurations
      state.json                  heartbeat: attempt, phase, step, steps/s (replaced, never appended to)
      lock                        held by the one process that may write here
      attempts/<n>/               stdout.log, stderr.log, provenance.json
      checkpoint/<step>.ckpt      the last two commits
      metrics/part-<step>.parquet one part a commit: the rows since the commit before
      done.json                   names the runs that are finished

A commit is a metrics part, then a checkpoint that names every part up to it: a part no checkpoint names was never
committed and is dropped on resume. Every write is temp + fsync + `os.replace`. No torch here.
"""

import fcntl
import hashlib
import json
import logging
import os
import platform
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from scorer_core import identity
from scorer_core.config import RunConfig
from scorer_core.identity import pack_id

# Read at `step`, at some of the log points (diagnostics.points), off a probe batch that stays the same; else NaN.
INSTRUMENTS = (
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
    *INSTRUMENTS,
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
SNAPSHOT = "snapshot.json"  # beside kept code: the version it had where it was taken


log = logging.getLogger("scorer")


class RecordError(Exception):
    """A record that cannot be read or written; the message names the file."""


def replace_file(path: Path, content: bytes | pa.Buffer, mode: int = 0o666) -> None:
    """Write `content` to `path` so that a reader, or a crash, sees the old file or the new one and nothing between.

    The new file has the permissions in `mode` that the umask allows and that the old file, if there is one, had.

    Raises:
        RecordError: if the file system refuses (full, read-only, ...).
    """
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
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read: {error}") from error


def _first_line(error: Exception) -> str:
    """The first thing that is wrong, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


@dataclass(frozen=True)
class Commit:
    step: int
    parts: list[str]  # names of the metrics parts up to `step`
    checkpoint: bytes


class PackFolder:
    """The folder of one pack; reading is open to all, writing to whoever holds `lock`."""

    def __init__(self, path: Path):
        self.path = path

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
        return list(self._names().values())

    def _recorded(self, pack: dict[str, Any]) -> dict[str, RunConfig]:
        """Configurations by the run ids in the pack's files."""
        recorded = {}
        for run_id, settings in pack["runs"].items():
            try:
                recorded[run_id] = RunConfig(**settings)
            except (TypeError, ValueError) as error:
                raise RecordError(f"{self.path / 'pack.json'}: run {run_id}: {_first_line(error)}") from error
        return recorded

    def _names(self) -> dict[str, str]:
        """Run ids, by the run ids in the pack's files: others if version 0.1 wrote them.

        A run for which version 0.1 had another result, or that equals another run of the pack, keeps its old id, which
        no definition asks for.
        """
        pack = self._pack()
        if pack.get("schema", 1) >= identity.SCHEMA_VERSION:
            return {run_id: run_id for run_id in pack["runs"]}
        names: dict[str, str] = {}
        for recorded, config in self._recorded(pack).items():
            new = not identity.computes_otherwise_since_version_1(config) and config.run_id not in names.values()
            names[recorded] = config.run_id if new else recorded
        return names

    def compiled(self) -> bool:
        return self._pack()["compiled"]

    def _pack(self) -> dict[str, Any]:
        pack = read_json(self.path / "pack.json")
        if not isinstance(pack, dict) or not pack.get("runs"):
            raise RecordError(f"{self.path / 'pack.json'}: missing, or names no run")
        return pack

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """True while this process alone may write here, False if another holds the folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    # --- done ---

    def done(self) -> dict[str, dict[str, Any]]:
        """Finished runs, each with its `status`, `done` or `diverged`, and its `verdicts`."""
        runs: dict[str, dict[str, Any]] = (read_json(self.path / "done.json") or {"runs": {}})["runs"]
        if not runs:
            return {}
        names = self._names()
        return {names.get(run_id, run_id): entry for run_id, entry in runs.items()}

    def finish(self, statuses: Mapping[str, dict[str, Any]]) -> None:
        """Name every run finished; the checkpoints have served."""
        write_json(self.path / "done.json", {"finished": now(), "runs": statuses})
        for checkpoint in self._checkpoints():
            checkpoint.unlink()

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
        return read_json(self.path / "state.json") or {}

    def write_state(self, **state: Any) -> None:
        write_json(self.path / "state.json", {"time": now(), "host": socket.gethostname(), "pid": os.getpid(), **state})

    # --- attempts ---

    def new_attempt(self) -> Path:
        """The folder of a new attempt; their numbers count the starts of this pack."""
        attempts = self.path / "attempts"
        number = 1 + max((int(folder.name) for folder in attempts.glob("[0-9]*")), default=0)
        (attempts / str(number)).mkdir(parents=True)
        return attempts / str(number)

    def provenance(self) -> dict[str, Any]:
        """Of the last attempt; empty before the first."""
        attempts = sorted(
            (self.path / "attempts").glob("[0-9]*/provenance.json"), key=lambda path: int(path.parent.name)
        )
        return (read_json(attempts[-1]) or {}) if attempts else {}

    # --- commits ---

    def commit(self, step: int, rows: pa.Table, checkpoint: bytes) -> None:
        """Make everything up to `step` durable: the new metric rows, then the checkpoint that names them."""
        if rows.num_rows:
            sink = pa.BufferOutputStream()
            pq.write_table(rows, sink, compression="zstd")
            replace_file(self._part(step), sink.getvalue())
        header = json.dumps({"step": step, "parts": [part.name for part in self.parts()]}).encode() + b"\n"
        payload = header + checkpoint
        checksum = hashlib.sha256(payload).hexdigest().encode()
        replace_file(self.path / "checkpoint" / f"{step:014d}.ckpt", checksum + b"\n" + payload, 0o644)
        for old in self._checkpoints()[:-KEPT_COMMITS]:
            old.unlink()

    def last_commit(self) -> Commit | None:
        """The newest commit that is whole, everything after it dropped; None to begin anew."""
        for path in reversed(self._checkpoints()):
            try:
                commit = self._read_checkpoint(path)
            except RecordError as error:
                log.warning("%s; going back to the commit before", error)
                path.unlink()
            else:
                self._drop_parts_but(commit.parts)
                return commit
        self._drop_parts_but([])
        return None

    def _drop_parts_but(self, committed: Sequence[str]) -> None:
        for part in self.parts():
            if part.name not in committed:
                part.unlink()

    def _read_checkpoint(self, path: Path) -> Commit:
        checksum, _, payload = path.read_bytes().partition(b"\n")
        if hashlib.sha256(payload).hexdigest().encode() != checksum:
            raise RecordError(f"{path}: corrupt checkpoint")
        header, _, checkpoint = payload.partition(b"\n")
        commit = Commit(**json.loads(header), checkpoint=checkpoint)
        missing = set(commit.parts) - {part.name for part in self.parts()}
        if missing:
            raise RecordError(f"{path}: its metrics part {min(missing)} is gone")
        return commit

    def last_row(self, run_id: str) -> dict[str, Any]:
        """The newest committed metrics of one run; empty before its first commit."""
        for part in reversed(self.parts()):
            rows = pq.read_table(part, filters=[("run_id", "=", run_id)])
            if rows.num_rows:
                return rows.slice(rows.num_rows - 1).to_pylist()[0]
        return {}

    def committed_step(self) -> int:
        """Where the next attempt will begin, if the newest checkpoint is whole."""
        return max((int(path.stem) for path in self._checkpoints()), default=0)

    def _checkpoints(self) -> list[Path]:
        return sorted((self.path / "checkpoint").glob("*.ckpt"))

    def _part(self, step: int) -> Path:
        return self.path / "metrics" / f"part-{step:014d}.parquet"

    def parts(self) -> list[Path]:
        return sorted((self.path / "metrics").glob("part-*.parquet"))


def pack_folders(packs: Path) -> list[PackFolder]:
    """Every pack under `packs`, by name."""
    return [PackFolder(path.parent) for path in sorted(packs.glob("*/pack.json"))]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(device: str) -> dict[str, Any]:
    """Where and with what an attempt ran: host, versions, job, and the commit and diff of the code that is running."""
    source = Path(__file__).resolve().parent.parent
    return {
        "started": now(),
        "argv": sys.argv,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "device": device,
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        **code_version(source),
        "python": platform.python_version(),
        "packages": {dist.name: dist.version for dist in sorted(distributions(), key=lambda dist: dist.name.lower())},
    }


def code_version(source: Path) -> dict[str, str | None]:
    """Commit and diff of the tree at `source`; of a snapshot, those of the tree it was taken of."""
    kept = read_json(source / SNAPSHOT)
    if kept is not None:
        return kept

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", source, *arguments], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    return {"git_commit": git("rev-parse", "HEAD"), "git_diff": git("diff", "HEAD")}
