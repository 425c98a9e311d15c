"""The rows that runs logged, read from the parts of their packs; whatever cannot be read becomes a remark."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scorer_core.records import PackFolder, RecordError, pack_folders, read_json

Status = Literal["done", "diverged", "partial", "missing"]
IMPORTED = "imported"  # the folder, in a sweep's, of runs from elsewhere
IMPORT_KEY = b"scorer_import"  # of the metadata of their Parquet files: JSON with source, path, sha256


@dataclass(frozen=True)
class Trace:
    """One run's logged rows, by step."""

    status: Status
    code: str
    folder: Path
    steps: np.ndarray
    values: np.ndarray  # metrics x steps
    diverged_at: int | None
    verdicts: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        return self.status in ("done", "diverged")


def read_packs(folder: Path, wanted: set[str], metrics: Sequence[str], problems: list[str]) -> dict[str, Trace]:
    """The wanted runs that have rows. A run that stands in two packs is taken where it is finished, or went further."""
    found: dict[str, Trace] = {}
    for pack in pack_folders(folder / "packs"):
        try:
            run_ids = [run_id for run_id in pack.run_ids() if run_id in wanted]
        except RecordError as error:
            problems.append(f"{error}; its runs count as missing")
            continue
        if not run_ids:
            continue
        try:
            done = {run_id: (str(e["status"]), *map(str, e.get("verdicts", ()))) for run_id, e in pack.done().items()}
        except (RecordError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"{pack.path / 'done.json'}: cannot be read ({error}); its runs count as unfinished")
            done = {}
        for trace_id, trace in _traces(pack, run_ids, done, metrics, problems):
            known = found.get(trace_id)
            if known is None or (trace.finished, len(trace.steps)) > (known.finished, len(known.steps)):
                found[trace_id] = trace
    return found


def _traces(
    pack: PackFolder,
    run_ids: Sequence[str],
    done: dict[str, tuple[str, ...]],
    metrics: Sequence[str],
    problems: list[str],
) -> Iterable[tuple[str, Trace]]:
    """Of each run with rows; `done` holds the status of a finished one, then its verdicts."""
    lanes, steps, values, diverged, unreadable = _read_parts(pack, run_ids, metrics)
    for part, error in unreadable:
        problems.append(f"{part}: cannot be read ({error}); the pack's {len(run_ids)} runs count as unfinished")
    code = _code_version(pack, problems)
    order = np.lexsort((steps, lanes))
    lanes, steps, values, diverged = lanes[order], steps[order], values[:, order], diverged[order]
    ends = np.searchsorted(lanes, np.arange(len(run_ids) + 1))
    for lane, run_id in enumerate(run_ids):
        here = slice(ends[lane], ends[lane + 1])
        if here.start == here.stop:
            if run_id in done and not unreadable:
                problems.append(f"{pack.path}: run {run_id} is done but has no metrics; it counts as missing")
            continue
        status: Status = "partial"
        if run_id in done and not unreadable:
            status = "diverged" if done[run_id][0] == "diverged" else "done"
        blown = np.flatnonzero(diverged[here])
        diverged_at = int(steps[here][blown[0]]) if blown.size else None
        verdicts = done[run_id][1:] if status != "partial" else ()
        yield run_id, Trace(status, code, pack.path, steps[here], values[:, here].astype(float), diverged_at, verdicts)


def _read_parts(
    pack: PackFolder, run_ids: Sequence[str], metrics: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[tuple[Path, str]]]:
    """Lanes, steps, metrics (x rows) and diverged of every part that is whole, and the parts that are not."""
    lane_of = {run_id: lane for lane, run_id in enumerate(run_ids)}
    nothing = np.array([], np.int64)
    columns: list[tuple[np.ndarray, ...]] = [(nothing, nothing, np.zeros((len(metrics), 0)), nothing)]
    unreadable = []
    for part in pack.parts():
        try:
            table = pq.ParquetFile(part).read(columns=["run_id", "step", *metrics, "diverged"])
            ids = table["run_id"].combine_chunks()
            ids = ids if isinstance(ids, pa.DictionaryArray) else ids.dictionary_encode()
            lane = np.array([lane_of.get(run_id, -1) for run_id in ids.dictionary.to_pylist()], np.int64)
            lanes = lane[ids.indices.to_numpy()]
            ours = lanes >= 0
            values = np.stack([table[metric].to_numpy()[ours] for metric in metrics])
            columns.append((lanes[ours], table["step"].to_numpy()[ours], values, table["diverged"].to_numpy()[ours]))
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            unreadable.append((part, " ".join(str(error).split())[:120]))
    lanes, steps, values, diverged = (np.concatenate(column, axis=-1) for column in zip(*columns, strict=True))
    return lanes, steps, values, diverged.astype(bool), unreadable


def _code_version(pack: PackFolder, problems: list[str]) -> str:
    """Commit and hash of the uncommitted changes of each attempt; two of them if it was resumed with other code."""
    versions = []
    for path in sorted((pack.path / "attempts").glob("*/provenance.json")):
        try:
            provenance = read_json(path)
        except RecordError as error:
            problems.append(str(error))
            continue
        version = (provenance.get("git_commit") or "no commit")[:10]
        if provenance.get("git_diff"):
            version += "+" + hashlib.sha256(provenance["git_diff"].encode()).hexdigest()[:8]
        versions.append(version)
    return " then ".join(dict.fromkeys(versions)) or "unknown"


def read_imported(folder: Path, problems: list[str]) -> dict[tuple[str, str, int], Trace]:
    """Imported runs, by variant, task and seed; `analysis.imports` wrote them."""
    found: dict[tuple[str, str, int], Trace] = {}
    for path in sorted((folder / IMPORTED).glob("*.parquet")):
        try:
            table = pq.ParquetFile(path, page_checksum_verification=True).read()
            code = f"imported from {_imported_from(path, table)}"
            table = table.sort_by([(name, "ascending") for name in ("variant", "task", "seed", "step")])
            keys = list(zip(*(table[name].to_pylist() for name in ("variant", "task", "seed")), strict=True))
            steps, returns = (table[name].to_numpy() for name in ("step", "return"))
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, RecordError) as error:
            problems.append(f"{path}: cannot be read ({error}); its runs are left out")
            continue
        starts = [row for row, key in enumerate(keys) if row == 0 or key != keys[row - 1]]
        for start, end in zip(starts, [*starts[1:], len(keys)], strict=True):
            key, here = keys[start], slice(start, end)
            if key in found:
                variant, task, seed = key
                problems.append(
                    f"{path}: {variant} on {task}, seed {seed} is in {found[key].folder} too, and is read from there"
                )
                continue
            found[key] = Trace("done", code, path, steps[here], returns[here][None], None)
    return dict(sorted(found.items()))


def _imported_from(path: Path, table: pa.Table) -> str:
    """The file that runs came from. Version 0.1 kept its name in a JSON file beside the Parquet file."""
    told = (table.schema.metadata or {}).get(IMPORT_KEY)
    return str((json.loads(told) if told else read_json(path.with_name(f"{path.stem}.json")))["source"])
