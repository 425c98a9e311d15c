"""The folder of a pack: what its runs leave behind, and who may write it.

    packs/<pack_id>/
      pack.json                   run ids and configurations
      state.json                  heartbeat: attempt, phase, step, steps/s (replaced, never appended to)
      lock                        held by the one process that may write here
      attempts/<n>/               stdout.log, stderr.log, provenance.json
      checkpoint/<step>.ckpt      the last two commits
      metrics/part-<step>.parquet one part per commit: the rows since the commit before; -1, -2 ... if the step has one
      done.json                   the finished runs, and the metrics parts with their SHA-256

A commit is a metrics part, then a checkpoint that lists every part up to it with its SHA-256: a part no checkpoint
lists was never committed and is dropped on resume. Every write is temp + fsync + `os.replace`. docs/records.md says
what each damage leads to. No torch here.
"""

import os
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from scorer_core import identity
from scorer_core.commits import Commit, Commits
from scorer_core.config import RunConfig
from scorer_core.identity import pack_id
from scorer_core.metric_parts import MetricParts
from scorer_core.provenance import read_provenance
from scorer_core.record_forms import (
    DoneRecord,
    EagerRecord,
    PackOutline,
    PackRecord,
    StateRecord,
    first_fault,
    now,
    read_record,
)
from scorer_core.support.errors import MovedError, RecordError
from scorer_core.support.files import numbered, refuse_links, replace_file, write_json
from scorer_core.support.locks import Lock, try_lock

if TYPE_CHECKING:
    import pyarrow as pa

EAGER = "eager.json"  # why a pack that was planned as compiled is eager
HALVED = "halved.json"  # names the two packs that replaced a pack which ran out of memory
Form = TypeVar("Form", PackRecord, PackOutline)  # how much of pack.json is read


class PackFolder:
    """The folder of one pack. Every process may read it; only the one that holds `lock` may write.

    A write while the lock is held raises MovedError if the folder was moved since.
    """

    def __init__(self, path: Path):
        self.path = path
        self._committed: dict[str, str] | None = None  # the parts of the last commit, once this process has read it
        self._lock: Lock | None = None  # while this process holds it

    @classmethod
    def create(cls, packs: Path, configs: Sequence[RunConfig], compiled: bool = False, **notes: Any) -> "PackFolder":
        """Create the folder of a new pack. `compiled` holds for all its attempts; `notes` are put into pack.json.

        Raises:
            RecordError: if pack.json cannot be written.
        """
        folder = cls(packs / pack_id([config.run_id for config in configs]))
        runs = {config.run_id: config.model_dump(mode="json") for config in configs}
        version = {"schema": identity.SCHEMA_VERSION}
        write_json(folder.path / "pack.json", version | {"compiled": compiled, **notes, "runs": runs})
        return folder

    @cached_property
    def _parts(self) -> MetricParts:
        return MetricParts(self.path / "metrics")

    @cached_property
    def _commits(self) -> Commits:
        return Commits(self.path / "checkpoint")

    @property
    def pack_id(self) -> str:
        return self.path.name

    def configs(self) -> list[RunConfig]:
        """The configurations, in the order of the lanes.

        Raises:
            RecordError: if pack.json is missing or damaged; so do the next methods.
        """
        return list(self._recorded(self._pack(PackRecord)).values())

    def run_ids(self) -> list[str]:
        """The run ids, in the order of the lanes."""
        return self.run_ids_and_origin()[0]

    def run_ids_and_origin(self) -> tuple[list[str], str | None]:
        """`run_ids`, and the id of the pack of which this one is a half (or None); pack.json is read once."""
        pack = self._pack(PackOutline)
        return list(self._names(pack).values()), pack.halved_from

    def tasks(self) -> list[str]:
        """The tasks of the runs, not checked: no environment is imported."""
        return sorted({str(settings.get("task")) for settings in self._pack(PackRecord).runs.values()})

    def sources(self) -> dict[str, str]:
        """The hash of the file of each part of the user's (RunConfig.sources), not checked: no part is looked for."""
        found: dict[str, str] = {}
        for settings in self._pack(PackRecord).runs.values():
            recorded = settings.get("sources")
            found |= recorded if isinstance(recorded, dict) else {}
        return found

    def known_runs(self) -> set[str]:
        """The run ids of a pack that may be damaged, from the first record that can be read; empty if none can."""
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

    def _names(self, pack: PackRecord | PackOutline) -> dict[str, str]:
        """Run ids, by the run ids in the pack's files: other ones if version 0.1 wrote them.

        A run for which version 0.1 had another result, or that equals another run of the pack, keeps its old id, which
        no definition asks for.
        """
        if not pack.of_version_1:
            return {run_id: run_id for run_id in pack.runs}
        names: dict[str, str] = {}
        for recorded, config in self._recorded(self._pack(PackRecord)).items():
            new = not identity.computes_otherwise_since_version_1(config) and config.run_id not in names.values()
            names[recorded] = config.run_id if new else recorded
        return names

    def compiled(self) -> bool:
        """Whether all its attempts use torch.compile; compiled and eager code differ in their last bits."""
        return self._pack(PackOutline).compiled and not (self.path / EAGER).exists()

    def eager_allowed(self) -> bool:
        """Whether a compiled pack may become an eager one, before it trains."""
        return self._pack(PackOutline).eager_allowed

    def make_eager(self, because: str) -> None:
        """From now on no attempt uses torch.compile. The caller holds the lock, and no step is committed.

        Raises:
            RecordError: if it cannot be recorded.
        """
        write_json(self.path / EAGER, {"because": because})

    def eager_because(self) -> str | None:
        """Why a pack that was planned as compiled is eager; None if it is not."""
        found = read_record(self.path / EAGER, EagerRecord)
        return found.because if found else None

    def _pack(self, form: type[Form]) -> Form:
        pack = read_record(self.path / "pack.json", form)
        if not pack or not pack.runs:
            raise RecordError(f"{self.path / 'pack.json'}: missing, or names no run")
        if pack_id(list(pack.runs)) != self.pack_id:
            raise RecordError(f"{self.path / 'pack.json'}: damaged: the folder is named after other runs")
        return pack

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """True while only this process may write to the folder, False if another process holds the lock.

        Raises:
            RecordError: if there is no such folder, or the lock cannot be opened.
        """
        if not self.path.is_dir():
            raise MovedError(f"{self.path}: there is no such folder; it was moved or removed")
        with try_lock(self.path / "lock") as lock:
            if not lock:
                yield False
                return
            self._lock = lock
            try:
                yield True
            finally:
                self._lock = None

    def in_place(self) -> AbstractContextManager[None]:
        """For a write to the folder: it raises MovedError if the folder was moved since it was locked."""
        return self._lock.in_place() if self._lock else nullcontext()

    # --- done ---

    def done(self) -> dict[str, dict[str, Any]]:
        """The finished runs, each with its `status` (`RunResult`) and its `verdicts`."""
        done = self._done()
        return self._results(done, self._names(self._pack(PackOutline))) if done else {}

    def verified_done(self) -> dict[str, dict[str, Any]]:
        """`done`, compared with pack.json and the parts on disk; every part is compared with its checksum.

        Raises:
            RecordError: if they differ, or a part is missing or damaged; the message names the file.
        """
        done = self._done()
        if not done or not done.runs:
            return {}
        names = self._names(self._pack(PackOutline))
        self._compare(done, names)
        if done.parts is not None and (left := {part.name for part in self.parts()} - done.parts.keys()):
            raise RecordError(f"{self.path / 'done.json'}: damaged: does not list the metrics part {min(left)}")
        for name, checksum in self._parts_of(done).items():
            self._parts.check(name, checksum)
        return self._results(done, names)

    def _results(self, done: DoneRecord, names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        return {names.get(name, name): run.model_dump(exclude_unset=True) for name, run in done.runs.items()}

    def _done(self) -> DoneRecord | None:
        return read_record(self.path / "done.json", DoneRecord)

    def finish(self, statuses: Mapping[str, dict[str, Any]]) -> None:
        """Write done.json with the `statuses` of all runs and the metrics parts; then remove the checkpoints.

        Raises:
            RecordError: if a committed part is damaged, or done.json cannot be written.
        """
        with self.in_place():
            parts = {name: self._parts.check(name, checksum) for name, checksum in self._committed_parts().items()}
            write_json(self.path / "done.json", {"finished": now(), "runs": statuses, "parts": parts})
            self._commits.remove()

    def reopen(self) -> None:
        """Remove done.json of a pack whose runs a search ended early and now trains further."""
        (self.path / "done.json").unlink(missing_ok=True)

    # --- state ---

    @property
    def cancelled(self) -> bool:
        """Did the user cancel this pack? Submitting it again removes the mark."""
        return (self.path / "cancelled").exists()

    def mark_cancelled(self, cancelled: bool) -> None:
        if cancelled:
            replace_file(self.path / "cancelled", f"{now()}\n".encode())
        else:
            (self.path / "cancelled").unlink(missing_ok=True)

    def state(self) -> dict[str, Any]:
        """The last heartbeat (`StateRecord`); empty before the first."""
        state = read_record(self.path / "state.json", StateRecord)
        return state.model_dump(exclude_unset=True) if state else {}

    def write_state(self, **state: Any) -> None:
        """Replace the heartbeat.

        Raises:
            RecordError: if it cannot be written.
        """
        record = {"time": now(), "host": socket.gethostname(), "pid": os.getpid(), **state}
        with self.in_place():
            write_json(self.path / "state.json", record)

    # --- attempts ---

    def new_attempt(self) -> Path:
        """Create the folder of a new attempt; its name is the number of starts of this pack."""
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
        """The provenance of the last attempt; empty before the first."""
        written = [attempt for attempt in self.attempts() if (attempt / "provenance.json").exists()]
        return read_provenance(written[-1]) if written else {}

    # --- commits ---

    def commit(self, step: int, rows: "pa.Table", checkpoint: bytes) -> None:
        """Make everything up to environment step `step` durable: the new metric rows (SCHEMA), then the checkpoint.

        Raises:
            RecordError: if one of them cannot be written; the last commit stays whole.
        """
        with self.in_place():
            if self._committed is None:
                self._committed = self._committed_parts()
            parts = dict(self._committed)
            if rows.num_rows:
                from scorer_core.metric_rows import to_parquet  # imports pyarrow

                name, checksum = self._parts.write(step, to_parquet(rows), parts)
                parts[name] = checksum
            self._commits.write(Commit(step, parts, checkpoint))
            self._committed = parts

    def last_commit(self) -> Commit | None:
        """The newest commit that is whole; None to start from step 0. Everything after it is removed.

        A checkpoint that is damaged, or that lists a damaged metrics part, is set aside with a warning.

        Raises:
            RecordError: if a part exists but cannot be read; nothing is removed then.
        """
        commit = self._commits.newest(self._parts)
        self._committed = commit.parts if commit else {}
        self._parts.keep_only(self._committed)
        return commit

    def committed_step(self) -> int:
        """Environment step at which the next attempt will start, if the newest checkpoint is whole."""
        return self._commits.step()

    # --- metrics ---

    def rows(self, columns: Sequence[str], run_ids: Collection[str] | None = None) -> "pa.Table":
        """The committed metric rows: `run_id`, `step` and `columns`, sorted by run and step; of `run_ids` if given.

        A metric that an older version did not log is NaN. Of version 0.1 a return is NaN as long as the run has
        finished fewer episodes than it has environments (`rows_of_version_1`).

        Raises:
            RecordError: if done.json cannot be read, or a part that it or the newest checkpoint lists is missing or
                damaged, or a row occurs twice.
        """
        from scorer_core import metric_rows  # imports pyarrow

        schema = metric_rows.with_columns(columns)
        parts = self._committed_parts()
        if not parts:
            return schema.empty_table()
        pack = self._pack(PackOutline)
        read = metric_rows.with_columns((*columns, "episodes")) if pack.of_version_1 else schema
        tables = [
            metric_rows.from_parquet(
                self._parts.content(name, checksum), read, self._parts.folder / name, validate=not checksum
            )
            for name, checksum in parts.items()
        ]
        table = metric_rows.joined(tables, read)
        if not table.num_rows:
            return schema.empty_table()
        if pack.of_version_1:
            old = metric_rows.rows_of_version_1(table, self._names(pack), self.configs()[0].num_envs)
            table = old.select(schema.names)
        return metric_rows.sorted_rows(table, run_ids, self._parts.folder)

    def last_row(self, run_id: str) -> dict[str, Any]:
        """The newest committed metrics of one run; empty before its first commit."""
        from scorer_core.metric_rows import SCHEMA

        rows = self.rows(SCHEMA.names, [run_id])
        return rows.slice(rows.num_rows - 1).to_pylist()[0] if rows.num_rows else {}

    def verify_results(self) -> None:
        """Compare the runs in done.json with those in pack.json.

        Raises:
            RecordError: if pack.json does not have all of them.
        """
        if done := self._done():
            self._compare(done, self._names(self._pack(PackOutline)))

    def _compare(self, done: DoneRecord, names: Mapping[str, str]) -> None:
        if strange := {names.get(name, name) for name in done.runs} - set(names.values()):
            raise RecordError(f"{self.path / 'done.json'}: damaged: pack.json has no run {min(strange)}")

    def parts(self) -> list[Path]:
        """The metrics parts on disk, committed or not, by step."""
        return self._parts.paths()

    def _committed_parts(self) -> dict[str, str]:
        """The committed parts, each with its SHA-256 ("" where version 0.1 recorded none).

        done.json lists the parts of a finished pack, the newest readable checkpoint those of an unfinished one.
        """
        for _ in range(2):  # another process may write done.json and remove the checkpoints in between
            if done := self._done():
                return self._parts_of(done)
            if listed := self._commits.listed_parts():
                return listed
        return {}

    def _parts_of(self, done: DoneRecord) -> dict[str, str]:
        return dict.fromkeys((part.name for part in self.parts()), "") if done.parts is None else done.parts
