"""Export to TensorBoard: one folder with one event file per run, to which each export appends the new rows.

The records are written by the `tensorboard` package; neither torch nor TensorFlow is needed. A mark has the size of the
file: what a killed export wrote after it is cut off.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from analysis.exporters import names
from analysis.exporters.marks import ExportError, Marks, open_marks
from analysis.exporters.runs import Cell, TrackedRun
from scorer_core.support.errors import RecordError
from scorer_core.support.files import open_file

INSTALL = "pip install tensorboard"
EVENTS = "events.out.tfevents.0.scorer"  # TensorBoard reads files with `tfevents` in their name
LONGEST_PART = 60  # characters of a name in that of a folder


@dataclass(frozen=True)
class TensorboardTracker:
    """A folder for `tensorboard --logdir`; None for report/tensorboard in the sweep's folder."""

    folder: Path | None = None

    def marks(self, folder: Path, sweep: str) -> AbstractContextManager[Marks]:  # noqa: ARG002, of all trackers
        to = str(self.folder.resolve()) if self.folder else "report/tensorboard"
        return open_marks(folder, "tensorboard", to, to)

    @contextmanager
    def writer(self, folder: Path, sweep: str, marks: Marks) -> Iterator["TensorboardWriter"]:  # noqa: ARG002
        if find_spec("tensorboard") is None:
            raise ExportError(f"tensorboard is not installed. Install it with: {INSTALL}")
        yield TensorboardWriter(self.place(folder), marks)

    def place(self, folder: Path) -> Path:
        """Where the runs of the sweep in `folder` are written."""
        return self.folder or folder / "report" / "tensorboard"


class TensorboardWriter:
    """Appends rows to the event files of runs."""

    def __init__(self, place: Path, marks: Marks):
        self._place, self._marks = place, marks

    def has(self, cell: Cell) -> bool:
        mark, size = self._marks.of(cell), self._size(cell)
        return mark is None or size >= mark.size

    def write(self, run: TrackedRun) -> int:
        """Append the new rows; write all of them if the file is not what was exported, or the run was trained anew."""
        mark = self._marks.of(run.cell)
        kept = self._marks.is_same(run) and self.has(run.cell)
        first, start = (mark.rows, mark.size) if mark and kept else (0, 0)
        content = b"" if start else _records([_version(run), _description(run)])
        content += _records(_event(run, row) for row in range(first, len(run.steps)))
        if run.cell.finished:
            content += _records([_summary(run)])
        self._marks.write(run, _append(self._path(run.cell), start, content))
        return max(0, len(run.steps) - first)

    def _path(self, cell: Cell) -> Path:
        return self._place / run_folder(cell) / EVENTS

    def _size(self, cell: Cell) -> int:
        path = self._path(cell)
        return path.stat().st_size if path.is_file() else 0


def run_folder(cell: Cell) -> str:
    """The name of a run's folder: CleanRL's, with the run id in place of a time."""
    row = cell.row
    parts = [re.sub(r"[^\w.=+-]", "_", part)[:LONGEST_PART] for part in (row.task, row.variant)]
    return "__".join([*parts, str(row.seed), cell.key])


def _append(path: Path, start: int, content: bytes) -> int:
    """Write `content` at `start` and cut off what is behind it; the new size.

    Raises:
        RecordError: if the file cannot be written.
    """
    with open(open_file(path, os.O_RDWR), "r+b") as file:  # noqa: PTH123, no link is followed
        try:
            file.truncate(start)
            file.seek(start)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise RecordError(f"{path}: cannot be written: {error.strerror}") from error
    return start + len(content)


def _records(events: Any) -> bytes:
    """Events in TensorBoard's record format."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    sink = BytesIO()
    writer = RecordWriter(sink)
    for event in events:
        writer.write(event.SerializeToString())
    return sink.getvalue()


def _version(run: TrackedRun) -> Any:
    return _proto("event").Event(wall_time=run.started, file_version="brain.Event:2")


def _event(run: TrackedRun, row: int) -> Any:
    """One row; a value that is not known is left out."""
    Summary = _proto("summary").Summary
    known = [
        Summary.Value(tag=name, simple_value=run.columns[column][row])
        for column, name in names.NAMES.items()
        if not np.isnan(run.columns[column][row])
    ]
    return _proto("event").Event(wall_time=run.times[row], step=int(run.steps[row]), summary=Summary(value=known))


def _description(run: TrackedRun) -> Any:
    return _text("config", names.configuration(run) | {"name": names.run_name(run.cell)}, 0, run.started)


def _summary(run: TrackedRun) -> Any:
    last = int(run.steps[-1])
    return _text("summary", names.summary(run.cell), last, float(run.times[-1]))


def _text(tag: str, content: dict[str, Any], step: int, time: float) -> Any:
    """A table in Markdown, for the tab of texts."""
    summary, tensor = _proto("summary"), _proto("tensor")
    rows = [f"|{name}|{json.dumps(value, ensure_ascii=False)}|".replace("\n", " ") for name, value in content.items()]
    table = "\n".join(["|name|value|", "|-|-|", *rows])
    size = _proto("tensor_shape").TensorShapeProto
    content_of = tensor.TensorProto(
        dtype=_proto("types").DT_STRING, string_val=[table.encode()], tensor_shape=size(dim=[size.Dim(size=1)])
    )
    metadata = summary.SummaryMetadata(plugin_data=summary.SummaryMetadata.PluginData(plugin_name="text"))
    value = summary.Summary.Value(tag=tag, tensor=content_of, metadata=metadata)
    return _proto("event").Event(wall_time=time, step=step, summary=summary.Summary(value=[value]))


def _proto(name: str) -> Any:
    """One of TensorBoard's protocol buffers; their classes are made when they are imported."""
    return import_module(f"tensorboard.compat.proto.{name}_pb2")
