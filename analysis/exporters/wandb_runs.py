"""Export to Weights & Biases: one W&B run per run of the sweep, online, or offline for `wandb sync`.

Only rows that were not exported yet are sent, with the index of the log point as W&B's step. Online, W&B says from
which step on it has no rows. Offline, it cannot: a part of a run is written apart and, when it is whole, moved to where
`wandb sync` finds it. If an export is killed after that and before the mark, the next one counts the part.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from analysis.exporters import names
from analysis.exporters.marks import ExportError, Marks, open_marks
from analysis.exporters.runs import Cell, TrackedRun
from scorer_core.support.commands import command_on
from scorer_core.support.errors import reason
from scorer_core.support.files import read_json, write_json

OPEN_RUNS = 4  # at a time, online: enough to upload one while the next is opened
OLDEST = (0, 31)  # the first version that joins offline parts of a run
FINISH_SECONDS = 900.0  # until an upload that makes no progress is given up
UNFINISHED = ".unfinished"  # folder of parts that are being written
PART = "scorer.json"  # in the folder of an offline part: which rows of which export it has
INSTALL = "pip install 'wandb>=0.31'"


@dataclass(frozen=True)
class WandbTracker:
    """A W&B project.

    Attributes:
        project: its name; "" for the name of the sweep.
        entity: a user or team; "" for the user's default.
        offline: the folder for `wandb sync`; None to send the rows now.
        artifact: also send the sweep's report and definition.
    """

    project: str = ""
    entity: str = ""
    offline: Path | None = None
    artifact: bool = False

    def marks(self, folder: Path, sweep: str) -> AbstractContextManager[Marks]:
        """Offline and online rows of one project have the same marks: with both, rows would be doubled."""
        where = f"the offline folder {self.offline.resolve()} (--offline)" if self.offline else "W&B online"
        return open_marks(folder, "wandb", "/".join(filter(None, [self.entity, self.project or sweep])), where)

    @contextmanager
    def writer(self, folder: Path, sweep: str, marks: Marks) -> Iterator["WandbWriter"]:
        wandb = _wandb()
        owner = f"{sweep}-{marks.path.stem}"  # other sweeps may export to the same folder
        with _place(self.offline, owner) as place:
            writer = WandbWriter(wandb, self, self.project or sweep, place, marks)
            try:
                yield writer
                writer.finish_all()
                if self.artifact:
                    writer.write_report(folder, sweep)
            except (wandb.Error, TimeoutError, OSError) as error:
                raise ExportError(f"W&B: {reason(error)}") from error
            finally:
                writer.abandon()
                wandb.teardown()


def _wandb() -> Any:
    """The wandb package: importing it takes two seconds.

    Raises:
        ExportError: if it is not installed, or too old.
    """
    try:
        found = version("wandb")
    except PackageNotFoundError:
        raise ExportError(f"wandb is not installed. Install it with: {INSTALL}") from None
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < OLDEST:
        raise ExportError(f"wandb {found} is too old: it doubles rows. Install a newer one with: {INSTALL}")
    # Without these, it prints what it does, and reports errors of its own to its makers even when offline.
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


@contextmanager
def _place(offline: Path | None, name: str) -> Iterator[Path]:
    """The folder in which the client writes its files; `name` is that of the only export that uses it."""
    if offline is None:
        with tempfile.TemporaryDirectory(prefix="scorer-wandb-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
        return
    place = offline / UNFINISHED / name
    shutil.rmtree(place, ignore_errors=True)  # an export was killed
    try:
        place.mkdir(parents=True)
    except OSError as error:
        raise ExportError(f"--offline {offline}: cannot be written: {error.strerror}") from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


class WandbWriter:
    """Opens a W&B run, logs rows, and finishes it while the next ones are logged."""

    def __init__(self, wandb: Any, tracker: WandbTracker, project: str, place: Path, marks: Marks):
        self._wandb, self._tracker, self._project, self._place, self._marks = wandb, tracker, project, place, marks
        self._open: deque[tuple[Any, TrackedRun, int]] = deque()
        self._parts = _parts(tracker.offline, place.name) if tracker.offline else {}
        if tracker.offline is None:
            self._log_in()

    def has(self, cell: Cell) -> bool:  # noqa: ARG002, as all writers
        """A part that was uploaded may be removed here."""
        return True

    def write(self, run: TrackedRun) -> int:
        """Log the rows from the first that W&B does not have; the run is finished later."""
        if not self._marks.is_same(run):
            raise ExportError(
                f"run {run.cell.key} ({names.run_name(run.cell)}) was trained anew since it was exported, and W&B "
                f"has its old rows; export to another --project, or delete the run there and {self._marks.path} here"
            )
        mark = self._marks.of(run.cell)
        first = self._count_parts(run.cell.key, mark.rows if mark else 0)
        if self._tracker.offline and first >= len(run.steps) and (mark or first) and self._is_told(run, first):
            self._marks.write(run)
            return 0
        opened = self._init(run)
        if self._tracker.offline is None:
            first = opened.starting_step
        opened.define_metric(names.STEP)
        opened.define_metric("*", step_metric=names.STEP)
        for row in range(first, len(run.steps)):
            opened.log(_row(run, row), step=row, commit=True)
        opened.summary.update(names.summary(run.cell))
        self._open.append((opened, run, first))
        if self._tracker.offline or len(self._open) >= OPEN_RUNS:
            self._finish()
        return max(0, len(run.steps) - first)

    def finish_all(self) -> None:
        while self._open:
            self._finish()

    def abandon(self) -> None:
        """Close what an error or a signal left open; its rows get no mark."""
        while self._open:
            with suppress(Exception):
                self._open.popleft()[0].finish(exit_code=1)

    def write_report(self, folder: Path, sweep: str) -> None:
        """Send the report's folder and the definition as an artifact of a run of their own, if they have changed."""
        report = folder / "report"
        exports = {report / "export", report / "tensorboard"}
        drawn = [path for path in report.rglob("*") if path.is_file() and not exports & {*path.parents}]
        if not drawn:
            raise ExportError(f"{report}: there is no report to send; make it with: {command_on('report', folder)}")
        files = [folder / "sweep.yaml", *sorted(drawn)]
        digest = hashlib.sha256()
        for path in files:
            digest.update(f"{path.relative_to(folder)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
        if digest.hexdigest() == self._marks.record.report:
            return
        key = names.fitted(f"{sweep}-report", names.LONGEST_NAME)
        opened = self._wandb.init(
            **self._where(), id=key, name=f"{sweep}/report", group=sweep[:128], job_type="report",
            tags=[names.fitted(sweep, names.LONGEST_TAG)], config={"sweep": sweep},
        )  # fmt: skip
        artifact = self._wandb.Artifact(key, type="report")
        for path in files:
            artifact.add_file(str(path.resolve()), str(path.relative_to(folder)), skip_cache=True, policy="immutable")
        opened.log_artifact(artifact)
        opened.finish()
        if self._tracker.offline:
            self._move(key, 0, 0, "")
        self._marks.record.report = digest.hexdigest()
        self._marks.save()

    def _log_in(self) -> None:
        """Use the user's key, from WANDB_API_KEY or .netrc.

        Raises:
            ExportError: if there is none; it is never asked for here.
        """
        try:
            known = self._wandb.login(prompt=False)
        except self._wandb.Error as error:
            raise ExportError(f"W&B: {reason(error)}") from error
        if not known:
            raise ExportError("W&B: no API key; log in once with: wandb login")

    def _where(self) -> dict[str, Any]:
        """How every run is opened. Nothing of this process is recorded: no arguments, files, output or load."""
        settings = self._wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, use_dot_wandb=False,
            x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True, x_save_requirements=False,
            finish_timeout=0.0 if self._tracker.offline else FINISH_SECONDS, finish_timeout_raises=True,
        )  # fmt: skip
        return {
            "project": self._project,
            "entity": self._tracker.entity or None,
            "dir": str(self._place),
            "mode": "offline" if self._tracker.offline else "online",
            "resume": "allow",
            "reinit": "create_new",
            "settings": settings,
        }

    def _init(self, run: TrackedRun) -> Any:
        cell = run.cell
        return self._wandb.init(
            **self._where(), id=cell.key, name=names.run_name(cell), group=names.group(cell), job_type=cell.row.task,
            tags=names.tags(run), config=names.configuration(run),
        )  # fmt: skip

    def _finish(self) -> None:
        opened, run, first = self._open.popleft()
        opened.finish(exit_code=1 if run.cell.row.status == "diverged" else 0)
        if self._tracker.offline:
            self._move(run.cell.key, first, len(run.steps), run.cell.row.status)
        self._marks.write(run)

    # --- offline parts ---

    def _move(self, key: str, first: int, end: int, status: str) -> None:
        """Move a whole part to where `wandb sync` finds it, with a note on its rows."""
        assert self._tracker.offline is not None
        (written,) = (self._place / "wandb").glob(f"offline-run-*-{key}")
        (record,) = written.glob("run-*.wandb")
        whole = self._place / f"whole-{key}"
        whole.mkdir()
        record.rename(whole / record.name)
        write_json(whole / PART, {"export": self._place.name, "rows": [first, end], "status": status})
        shutil.rmtree(written)
        time = datetime.strptime(written.name[:27], "offline-run-%Y%m%d_%H%M%S")
        target = self._tracker.offline / "wandb"
        target.mkdir(exist_ok=True)
        while (target / f"offline-run-{time:%Y%m%d_%H%M%S}-{key}").exists():  # `wandb sync` reads them in this order
            time += timedelta(seconds=1)
        whole.rename(target / f"offline-run-{time:%Y%m%d_%H%M%S}-{key}")
        self._parts.setdefault(key, []).append((first, end, status))

    def _count_parts(self, key: str, rows: int) -> int:
        """`rows`, with those of parts that were written after the mark, when the export was killed."""
        for first, end, _ in sorted(self._parts.get(key, [])):
            if first <= rows < end:
                rows = end
        return rows

    def _is_told(self, run: TrackedRun, rows: int) -> bool:
        """Whether a part that ends at `rows` has the run's status."""
        return (rows, run.cell.row.status) in [(end, status) for _, end, status in self._parts.get(run.cell.key, [])]


def _parts(offline: Path, export: str) -> dict[str, list[tuple[int, int, str]]]:
    """First row, last row + 1 and status of each part of this export in the folder, by run."""
    found: dict[str, list[tuple[int, int, str]]] = {}
    for path in sorted((offline / "wandb").glob(f"offline-run-*/{PART}")):
        note = read_json(path)
        if note["export"] != export:
            continue
        key = path.parent.name.split("-", 3)[-1]
        found.setdefault(key, []).append((int(note["rows"][0]), int(note["rows"][1]), str(note["status"])))
    return found


def _row(run: TrackedRun, row: int) -> dict[str, Any]:
    """One row without the values that are not finite: W&B's charts cannot show them."""
    values = {name: float(run.columns[column][row]) for column, name in names.NAMES.items()}
    known = {name: value for name, value in values.items() if np.isfinite(value)}
    times = {"_timestamp": float(run.times[row])} if run.started else {}
    return {names.STEP: int(run.steps[row]), **known, **times}
