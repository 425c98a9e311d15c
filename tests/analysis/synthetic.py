"""Sweeps that were never trained: real records with returns drawn from known curves."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scorer_core.config import RunConfig
from scorer_core.metric_rows import SCHEMA
from scorer_core.metrics import MEASURED, METRICS
from scorer_core.records import PackFolder
from scorer_core.support.files import replace_file, write_json
from sweeps.cells import Run
from sweeps.definition import Sweep
from sweeps.loading import dump, parse
from sweeps.plan import Plan

DEFINITION: dict[str, Any] = {
    "name": "synthetic",
    "question": "Does the report show what was put in?",
    "tasks": ["minatar/breakout", "minatar/asterix"],
    "total_steps": 100_000,
    "seeds": 5,
    "base": {"num_envs": 16, "update_every": 16, "log_points": 20},
    "baseline": "dqn",
    "variants": {
        "dqn": {"coupling": "monolithic"},
        "scorer": {"coupling": "scorer"},
        "inverted": {"coupling": "inverted"},
    },
}

# Names that are special to LaTeX, to matplotlib's mathematics, or to neither's fonts.
ODD_NAMES = (
    r"lr $\alpha_{$", r"$\frac$", "a$b$c", "100%", "x_1^2", "#&{}", "\\", r"\$5", "[64, 64]", "* <b> a|b", "$",
    "~Größe αλ 中 🙂", "_x",
)  # fmt: skip

LEVELS = {"dqn": 4.0, "scorer": 8.0, "inverted": 2.0}


def rising_return(run: Run, steps: np.ndarray) -> np.ndarray:
    """A curve that saturates at its variant's level, with an effect of the run and noise on every point."""
    rng = np.random.default_rng([run.config.seed, len(run.variant.name), len(run.config.task)])
    level = LEVELS.get(run.variant.base_name, 3.0) * np.exp(0.1 * rng.normal())
    return level * (1 - np.exp(-3 * steps / steps[-1])) + 0.1 * rng.normal(size=len(steps))


def rows(config: RunConfig, steps: np.ndarray, returns: np.ndarray, diverged: np.ndarray | None = None) -> pa.Table:
    blown = np.zeros(len(steps), bool) if diverged is None else diverged
    falling = 0.5 + (1 + config.seed % 7) * np.exp(-4.0 * steps / config.total_steps)
    columns = {name: pa.array(falling.astype(np.float32)) for name in (*METRICS, *MEASURED)}
    columns["return"] = pa.array(returns.astype(np.float32))
    columns["run_id"] = pa.array([config.run_id] * len(steps)).dictionary_encode()
    columns["step"] = pa.array(steps)
    columns["diverged"] = pa.array(blown)
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def logged_steps(config: RunConfig) -> np.ndarray:
    return (np.arange(1, config.log_points + 1) * config.total_steps // config.log_points).astype(np.int64)


def make_sweep(
    outputs: Path,
    overrides: Mapping[str, Any] | None = None,
    curve: Callable[[Run, np.ndarray], np.ndarray] = rising_return,
    parts: int = 2,
    lanes: int = 16,
    unfinished: Callable[[Run], bool] = lambda _: False,
    absent: Callable[[Run], bool] = lambda _: False,
    diverged: Callable[[Run], bool] = lambda _: False,
    verdicts: Callable[[Run], list[str]] = lambda _: [],
    commit: Callable[[int], str] = lambda _: "c0ffee0123456789",
) -> Path:
    """The folder of a sweep whose packs were written through the records, `parts` commits each."""
    sweep = parse({**DEFINITION, **(overrides or {})}, "test")
    folder = outputs / sweep.name
    replace_file(folder / "sweep.yaml", dump(sweep).encode())
    cells = list({run.run_id: run for run in sweep.runs if not absent(run)}.values())
    packs: dict[str, list[Run]] = {}
    for run in cells:
        packs.setdefault(run.config.shape_id, []).append(run)
    chunks = [pack[i : i + lanes] for pack in packs.values() for i in range(0, len(pack), lanes)]
    for number, chunk in enumerate(chunks):
        pack = PackFolder.create(folder / "packs", [run.config for run in chunk])
        write_json(pack.new_attempt() / "provenance.json", {"git_commit": commit(number), "git_diff": ""})
        for part in range(parts):
            tables = []
            for run in chunk:
                steps = logged_steps(run.config)
                if unfinished(run):
                    steps = steps[: len(steps) // 2]
                returns = curve(run, logged_steps(run.config))
                here = np.array_split(np.arange(len(steps)), parts)[part]
                blown = np.full(len(here), diverged(run) and part == parts - 1)
                tables.append(rows(run.config, steps[here], returns[here], blown))
            pack.commit(part + 1, pa.concat_tables(tables, promote_options="default").unify_dictionaries(), b"state")
        finished = {
            r.run_id: {"status": "diverged" if diverged(r) else "done", "verdicts": verdicts(r)}
            for r in chunk
            if not unfinished(r)
        }
        if finished:
            pack.finish(finished)
    return folder


def finish_packs(plan: Plan) -> None:
    """Write the plan and its packs, each as if its training had come to the end."""
    plan.write()
    for pack in plan.packs:
        folder = PackFolder(pack.folder.path)
        write_json(folder.new_attempt() / "provenance.json", {"git_commit": "c0ffee0123456789", "git_diff": ""})
        tables = [rows(config, steps, steps / 1000) for config in pack.configs for steps in [logged_steps(config)]]
        folder.commit(pack.configs[0].total_steps, pa.concat_tables(tables).unify_dictionaries(), b"state")
        folder.finish({config.run_id: {"status": "done", "verdicts": []} for config in pack.configs})


def definition(**overrides: Any) -> Sweep:
    return parse({**DEFINITION, **overrides}, "test")
