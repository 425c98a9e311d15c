"""Read the rows that runs logged. A record that cannot be read becomes a problem, not an error."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scorer_core import versions
from scorer_core.config import RunConfig
from scorer_core.pack_folders import ignored_folders, pack_folders
from scorer_core.provenance import read_provenance
from scorer_core.records import PackFolder
from scorer_core.support.commands import retrain
from scorer_core.support.errors import RecordError
from scorer_core.support.files import read_json
from scorer_core.support.text import count

Status = Literal["done", "diverged", "partial", "missing"]
NAMED = 6  # packs in a sentence
IMPORTED = "imported"  # the folder of imported runs in a sweep's folder
IMPORT_KEY = b"scorer_import"  # key in the metadata of their Parquet files: JSON with source, path, sha256


@dataclass(frozen=True)
class RunMetrics:
    """The logged rows of one run."""

    status: Status
    code_version: str
    folder: Path
    steps: np.ndarray  # environment steps, num_steps
    values: np.ndarray  # `num_metrics x num_steps`
    diverged_at: int | None  # the first step logged as diverged
    verdicts: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether it is done or diverged."""
        return self.status in ("done", "diverged")


def read_packs(
    folder: Path, wanted: Mapping[str, RunConfig], metrics: Sequence[str], problems: list[str]
) -> dict[str, RunMetrics]:
    """The rows of the wanted runs, by run id. If a run is in two packs, the finished or longer one counts.

    Args:
        folder: outputs/<sweep>.
        wanted: configurations by run id.
        metrics: columns of the records.
        problems: sentences about records that cannot be read are appended to it.
    """
    found: dict[str, RunMetrics] = {}
    problems += ignored_folders(folder / "packs")
    for pack in pack_folders(folder / "packs"):
        try:
            run_ids = [run_id for run_id in pack.run_ids() if run_id in wanted]
        except RecordError as error:
            problems.append(f"{error}; its runs are treated as missing")
            continue
        if not run_ids:
            continue
        for run_id, run in _runs(pack, {run_id: wanted[run_id] for run_id in run_ids}, metrics, problems):
            known = found.get(run_id)
            if known is None or (run.finished, len(run.steps)) > (known.finished, len(known.steps)):
                found[run_id] = run
    return found


def _runs(
    pack: PackFolder, configs: Mapping[str, RunConfig], metrics: Sequence[str], problems: list[str]
) -> Iterable[tuple[str, RunMetrics]]:
    """The runs of a pack with rows. If done.json or a metrics part is damaged: all runs, unfinished and without rows.

    A run without its last rows is unfinished, even if done.json names it: version 0.1 recorded no checksums of parts.
    """
    code_version = _code_version(pack, problems)
    done: dict[str, dict[str, Any]] = {}
    try:
        done = pack.done()
        if done:
            pack.verify_results()
        table = pack.rows([*metrics, "diverged"], configs)
    except RecordError as error:
        advice = f". {retrain(pack.path.parent.parent)}" if done else ""
        runs = "its run is" if len(configs) == 1 else f"its {len(configs)} runs are"
        problems.append(f"{error}; {runs} treated as unfinished{advice}")
        nothing = np.array([], np.int64), np.zeros((len(metrics), 0))
        yield from ((run_id, RunMetrics("partial", code_version, pack.path, *nothing, None)) for run_id in configs)
        return
    owners = table["run_id"].to_pylist()
    steps, diverged = table["step"].to_numpy(), table["diverged"].to_numpy()
    values = np.stack([table[metric].to_numpy() for metric in metrics]).astype(float)
    starts = [row for row in range(len(owners)) if row == 0 or owners[row] != owners[row - 1]]
    places = {owners[start]: slice(start, end) for start, end in itertools.pairwise([*starts, len(owners)])}
    for run_id, config in configs.items():
        result = done.get(run_id)
        if run_id not in places:
            if result:
                problems.append(f"{pack.path}: run {run_id} is done but has no metrics; it is treated as missing")
            continue
        here = places[run_id]
        status: Status = "partial"
        if result and len(steps[here]) < min(config.log_points, config.vector_steps):
            lost = min(config.log_points, config.vector_steps) - len(steps[here])
            problems.append(
                f"{pack.path / 'metrics'}: {count(lost, 'row')} of run {run_id} lost; it is treated as unfinished"
            )
        elif result:
            status = "diverged" if result["status"] == "diverged" else "done"
        diverged_rows = np.flatnonzero(diverged[here])
        diverged_at = int(steps[here][diverged_rows[0]]) if diverged_rows.size else None
        verdicts = tuple(result.get("verdicts", ())) if result and status != "partial" else ()
        yield run_id, RunMetrics(status, code_version, pack.path, steps[here], values[:, here], diverged_at, verdicts)


def _code_version(pack: PackFolder, problems: list[str]) -> str:
    """Commit and hash of the uncommitted changes of each attempt; several if the pack was resumed with other code."""
    versions = []
    for attempt in pack.attempts():
        try:
            provenance = read_provenance(attempt)
        except RecordError as error:
            problems.append(f"{error}; the code version of this attempt is unknown")
            continue
        if not provenance:
            continue
        users = (f" with {top} {_short(code)}" for top, code in provenance.get("user_code", {}).items())
        versions.append("".join([_short(provenance), *users]))
    return " then ".join(dict.fromkeys(versions)) or "unknown"


def _short(code: Mapping[str, Any]) -> str:
    """Commit and hash of the uncommitted changes of a CodeVersion."""
    version = (code.get("git_commit") or "no commit")[:10]
    return version + ("+" + hashlib.sha256(code["git_diff"].encode()).hexdigest()[:8] if code.get("git_diff") else "")


class RanWith(NamedTuple):
    """With what packs ran: sentences about their versions, and their devices with the number of packs on each."""

    version_notes: tuple[str, ...]  # on upgrades between attempts, different versions, unknown commits
    devices: tuple[str, ...]


def ran_with(packs: Iterable[PackFolder]) -> RanWith:
    """With what versions and on which devices `packs` ran."""
    changed: list[str] = []
    last: list[dict[str, str]] = []
    unknown: Counter[str] = Counter()
    for pack in packs:
        changed += versions.upgrades(pack, commits=False)  # the code version of each run shows the commits
        last.append(versions.last_versions(pack))
        with suppress(RecordError):  # `_code_version` reports it
            provenance = pack.provenance()
            if provenance and not provenance.get("git_commit"):
                unknown[provenance.get("git_error") or "no reason was recorded"] += 1
    notes = []
    if changed:
        more = f"; and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        notes.append(f"Versions changed during training: {'; '.join(changed[:NAMED])}{more}.")
    if mixed := versions.mixed(last):
        notes.append(f"Packs ran with different versions: {mixed}.")
    for reason, number in unknown.items():
        notes.append(f"No git commit is recorded for {count(number, 'pack')}: {reason}.")
    devices = Counter(version["device"] for version in last if "device" in version)
    return RanWith(tuple(notes), tuple(f"{name} ({count(number, 'pack')})" for name, number in sorted(devices.items())))


def read_imported(folder: Path, problems: list[str]) -> dict[tuple[str, str, int], RunMetrics]:
    """Imported runs by variant, task and seed, as `import_runs` stored them; appends to `problems`."""
    found: dict[tuple[str, str, int], RunMetrics] = {}
    for path in sorted((folder / IMPORTED).glob("*.parquet")):
        try:
            table = pq.ParquetFile(path, page_checksum_verification=True).read()
            code = f"imported from {_imported_from(path, table)}"
            table = table.sort_by([(name, "ascending") for name in ("variant", "task", "seed", "step")])
            keys = list(zip(*(table[name].to_pylist() for name in ("variant", "task", "seed")), strict=True))
            steps, returns = (table[name].to_numpy() for name in ("step", "return"))
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, RecursionError, RecordError) as error:
            problems.append(f"{path}: cannot be read ({error}); its runs are left out")
            continue
        starts = [row for row, key in enumerate(keys) if row == 0 or key != keys[row - 1]]
        for start, end in zip(starts, [*starts[1:], len(keys)], strict=True):
            key, here = keys[start], slice(start, end)
            if key in found:
                variant, task, seed = key
                problems.append(
                    f"{path}: {variant} on {task}, seed {seed} is also in {found[key].folder} and is read from there"
                )
                continue
            found[key] = RunMetrics("done", code, path, steps[here], returns[here][None], None)
    return dict(sorted(found.items()))


def _imported_from(path: Path, table: pa.Table) -> str:
    """The imported file. Version 0.1 stored its name in a JSON file next to the Parquet file."""
    origin = (table.schema.metadata or {}).get(IMPORT_KEY)
    return str((json.loads(origin) if origin else read_json(path.with_name(f"{path.stem}.json")))["source"])
