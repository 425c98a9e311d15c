"""How a run is described in a tracker: names of its metrics, configuration, tags and final summary.

Names follow CleanRL where it has one (https://docs.cleanrl.dev), so that openrlbenchmark reads exported runs without
options. All runs have the same names: a tracker limits how many different ones a project has.
"""

import hashlib
import math
from typing import Any

from analysis.exporters.runs import COLUMNS, Cell, TrackedRun
from scorer_core.metrics import DIAGNOSTICS

STEP = "global_step"  # environment steps, the x-axis
CHARTS = {
    "return": "charts/episodic_return",
    "steps_per_second": "charts/SPS",
    **{name: f"charts/{name}" for name in ("episodes", "epsilon", "leader_lr", "follower_lr")},
}
LONGEST_TAG = 64  # characters, of W&B
LONGEST_NAME = 128
PROVENANCE = ("git_commit", "started", "host", "platform", "device", "gpu", "slurm_job_id", "python")
PACKAGES = ("torch", "numpy", "gymnasium", "minatar", "scorer")


def tracker_name(column: str) -> str:
    """The name of a column of the metrics parts in a tracker."""
    if column in CHARTS:
        return CHARTS[column]
    return f"diagnostics/{column}" if column in (*DIAGNOSTICS, "diverged") else f"losses/{column}"


NAMES = {column: tracker_name(column) for column in COLUMNS}


def run_name(cell: Cell) -> str:
    return fitted(f"{cell.row.variant}/{cell.row.task}/{cell.row.seed}", LONGEST_NAME)


def group(cell: Cell) -> str:
    return fitted(f"{cell.sweep}/{cell.row.variant}", LONGEST_NAME)


def tags(run: TrackedRun) -> list[str]:
    """The sweep, the algorithm, the status and, if it is known, the git commit."""
    cell = run.cell
    words = [cell.sweep, cell.config.algorithm, cell.row.status, (run.provenance.get("git_commit") or "")[:10]]
    return [fitted(word, LONGEST_TAG) for word in dict.fromkeys(words) if word]


def configuration(run: TrackedRun) -> dict[str, Any]:
    """All settings of the run; CleanRL's `env_id` and `exp_name`; and how it was trained."""
    cell, packages = run.cell, run.provenance.get("packages", {})
    versions = {name.lower(): version for name, version in packages.items() if name.lower() in PACKAGES}
    return {
        **cell.config.model_dump(mode="json"),
        "env_id": cell.row.task,
        "exp_name": cell.row.variant,
        "seed": cell.row.seed,
        "sweep": cell.sweep,
        "run_id": cell.row.run_id,
        "code_version": cell.row.code_version,
        **{name: run.provenance[name] for name in PROVENANCE if run.provenance.get(name) is not None},
        "packages": versions,
    }


def summary(cell: Cell) -> dict[str, Any]:
    """The status, and of a finished run its scores and verdicts; a score that it does not have is left out."""
    row = cell.row
    found: dict[str, Any] = {"status": row.status}
    if cell.finished:
        found["verdicts"] = ", ".join(row.verdicts) or "none"
        found |= {f"{name}_score": value for name, value in row.scores.items() if math.isfinite(value)}
    if row.diverged_at is not None:
        found["diverged_at"] = row.diverged_at
    return found


def fitted(text: str, longest: int) -> str:
    """`text`, cut to `longest` characters; the end of a text that was cut is a hash of the whole."""
    if len(text) <= longest:
        return text
    return f"{text[: longest - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
