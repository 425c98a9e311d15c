"""Metric rows: the schema of a pack's logged rows, and their form in Parquet. No torch.

Apart from `metric_parts.py`, because pyarrow takes a fifth of a second to import.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scorer_core.metrics import MEASURED, METRICS
from scorer_core.support.errors import DamagedError, RecordError

SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.dictionary(pa.int32(), pa.string())),
        pa.field("step", pa.int64()),  # environment steps so far
        *(pa.field(name, pa.float32()) for name in METRICS),
        pa.field("diverged", pa.bool_()),  # a parameter or loss of this run is NaN or infinite
        *(pa.field(name, pa.float32()) for name in MEASURED),
    ]
)


def with_columns(columns: Iterable[str]) -> pa.Schema:
    """SCHEMA with `run_id`, `step` and `columns` only."""
    return pa.schema([SCHEMA.field(name) for name in dict.fromkeys(("run_id", "step", *columns))])


def to_parquet(rows: pa.Table) -> memoryview:
    """The content of a metrics part."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", write_page_checksum=True)
    return memoryview(sink.getvalue())


def from_parquet(content: bytes, schema: pa.Schema, path: Path, validate: bool) -> pa.Table:
    """The rows of a part with the columns of `schema`; a metric that an older version did not log is NaN.

    `validate`: check every value, for a part without a recorded checksum.

    Raises:
        DamagedError: if the content is damaged; the message names `path`.
    """
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
        if validate:
            table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedError(f"{path}: damaged: {' '.join(str(error).split())[:120]}") from error
    if table["run_id"].null_count or table["step"].null_count:
        raise DamagedError(f"{path}: damaged: a row without run or step")
    return table


def joined(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    """The rows of all `tables`, in one chunk."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks() if tables else schema.empty_table()


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
