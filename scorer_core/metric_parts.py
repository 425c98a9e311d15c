"""Metrics parts: the Parquet files of a pack's logged rows, and their only reader. No torch."""

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scorer_core.metrics import MEASURED, METRICS
from scorer_core.support.errors import DamagedError, RecordError
from scorer_core.support.files import replace_file, set_aside

SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.dictionary(pa.int32(), pa.string())),
        pa.field("step", pa.int64()),  # environment steps so far
        *(pa.field(name, pa.float32()) for name in METRICS),
        pa.field("diverged", pa.bool_()),  # a parameter or loss of this run is NaN or infinite
        *(pa.field(name, pa.float32()) for name in MEASURED),
    ]
)
PART_NAME = re.compile(r"part-[0-9]+\.parquet")


class MetricParts:
    """The metrics parts in one folder, each checked against its SHA-256 when it is read."""

    def __init__(self, folder: Path):
        self.folder = folder

    def paths(self) -> list[Path]:
        """The parts on disk, committed or not, by step."""
        return sorted(path for path in self.folder.glob("part-*.parquet") if PART_NAME.fullmatch(path.name))

    def write(self, step: int, rows: pa.Table) -> tuple[str, str]:
        """Write `rows` (SCHEMA) as the part that ends at environment step `step`; its name and SHA-256.

        Raises:
            RecordError: if it cannot be written.
        """
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd", write_page_checksum=True)
        content, name = memoryview(sink.getvalue()), f"part-{step:014d}.parquet"
        replace_file(self.folder / name, content)
        return name, hashlib.sha256(content).hexdigest()

    def keep_only(self, names: Collection[str]) -> None:
        """Remove every other part."""
        for part in self.paths():
            if part.name not in names:
                set_aside(part) if part.is_dir() else part.unlink()

    def check(self, name: str, checksum: str) -> str:
        """The SHA-256 of the part `name`, whose recorded one is `checksum` ("" if version 0.1 wrote it).

        Raises:
            DamagedError: if the part is missing or damaged.
            RecordError: if it cannot be read for a reason that is not the file's.
        """
        if not checksum:
            self._read_part(name, checksum, SCHEMA)
        return hashlib.sha256(self._content(name, checksum)).hexdigest()

    def read(self, parts: Mapping[str, str], schema: pa.Schema) -> pa.Table:
        """The rows of `parts`, names and SHA-256, with the columns of `schema`; in the order of the parts.

        A metric that an older version did not log is NaN.

        Raises:
            RecordError: if a part is missing or damaged.
        """
        tables = [self._read_part(name, checksum, schema) for name, checksum in parts.items()]
        return pa.concat_tables(tables).unify_dictionaries().combine_chunks() if tables else schema.empty_table()

    def _content(self, name: str, checksum: str) -> bytes:
        path = self.folder / name
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
        content = self._content(name, checksum)
        path = self.folder / name
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


def sorted_rows(table: pa.Table, run_ids: Collection[str] | None, folder: Path) -> pa.Table:
    """`table`, in one chunk, sorted by run and step; only the rows of `run_ids` if given.

    Raises:
        RecordError: if a row occurs twice; the message names `folder`.
    """
    owners, steps = table["run_id"].chunk(0), table["step"].to_numpy()
    names = np.array(owners.dictionary.to_pylist())
    runs = np.argsort(np.argsort(names))[owners.indices.to_numpy()]  # the position of each row's run among the runs
    order = np.lexsort((steps, runs))
    twice = np.flatnonzero((np.diff(runs[order]) == 0) & (np.diff(steps[order]) == 0))
    if twice.size:
        row = order[twice[0]]
        raise RecordError(f"{folder}: run {owners[row].as_py()} has two rows for step {steps[row]}")
    if run_ids is not None:
        order = order[np.isin(names, list(run_ids))[owners.indices.to_numpy()][order]]
    return table.take(pa.array(order))


def rows_of_version_1(table: pa.Table, names: Mapping[str, str], num_envs: int) -> pa.Table:
    """Rows of version 0.1 with the run ids of this version (`names`), and NaN for returns before an episode has ended.

    Version 0.1 logged 0 for an environment before its first episode had ended: a return is not known as long as the run
    has finished fewer episodes than it has environments.
    """
    owners = table["run_id"].chunk(0)
    renamed = pa.array([names.get(name, name) for name in owners.dictionary.to_pylist()], pa.string())
    owners = pa.DictionaryArray.from_arrays(owners.indices, renamed)
    table = table.set_column(table.column_names.index("run_id"), SCHEMA.field("run_id"), owners)
    if "return" in table.column_names:
        unknown = table["episodes"].to_numpy() < num_envs
        returns = pa.array(np.where(unknown, np.float32("nan"), table["return"].to_numpy()))
        table = table.set_column(table.column_names.index("return"), SCHEMA.field("return"), returns)
    return table
