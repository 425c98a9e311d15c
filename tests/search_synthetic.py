"""A stand-in for training that writes real records: the return is a known function of the ratio, with noise a seed.

`python -m tests.search_synthetic FOLDER TOGETHER SECONDS` is a worker with it: all but the training is the real one.
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scorer_core.config import RunConfig
from scorer_core.metric_rows import SCHEMA
from scorer_core.metrics import METRICS
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from slurm.jobs.search_worker import Worker
from sweeps import search
from sweeps.studies import study_in

BEST_RATIO, NOISE = 4.0, 0.3
POINTS, POINTS_A_COMMIT = 40, 5  # rows a run


def worth(config: RunConfig) -> float:
    """The score a run is heading for, without noise: a parabola in the logarithm of the ratio, 10 at its top."""
    assert config.ratio is not None
    return 10.0 - 2.0 * math.log10(config.ratio / BEST_RATIO) ** 2


def returns(config: RunConfig) -> np.ndarray:
    """A learning curve: the run's worth, with noise that is half its seed's and half its own, reached along a ramp."""
    seeds, own = np.random.default_rng(config.seed), np.random.default_rng(int(config.run_id, 16))
    noise = NOISE * (seeds.normal() + own.normal()) / math.sqrt(2)
    return (worth(config) + noise) * np.minimum(1.0, np.arange(1, POINTS + 1) / (0.5 * POINTS))


def without_returns(config: RunConfig, first_episode: int) -> np.ndarray:
    """A curve without a value before step `first_episode`, when the run's first episode ends."""
    steps = config.total_steps * np.arange(1, POINTS + 1) // POINTS
    return np.where(steps >= first_episode, returns(config), np.nan)


class SyntheticTrainer:
    """Commits every few rows of `curve`; `pause` is called before each commit, and may be where it is killed."""

    def __init__(
        self,
        pause: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = bool,
        curve: Callable[[RunConfig], np.ndarray] = returns,
    ):
        self._pause, self._should_stop, self._curve = pause, should_stop, curve
        self.trained: list[str] = []  # run ids begun
        self.steps = 0  # environment steps of all runs together

    def train(self, folder: PackFolder, until: int | None) -> bool:
        configs = folder.configs()
        total, commit = configs[0].total_steps, folder.last_commit()
        point = int(commit.checkpoint) if commit else 0
        self.trained += [] if commit else folder.run_ids()
        curves = [self._curve(config) for config in configs]
        while point < POINTS:
            if until is not None and total * point // POINTS >= until:
                folder.write_state(phase="paused", step=total * point // POINTS, lanes=len(configs))
                return False
            self._pause()
            if self._should_stop():
                return False
            rows = [
                _rows(configs, total * (p + 1) // POINTS, [curve[p] for curve in curves])
                for p in range(point, point + POINTS_A_COMMIT)
            ]
            point += POINTS_A_COMMIT
            folder.commit(total * point // POINTS, pa.concat_tables(rows), b"%d" % point)
            self.steps += len(configs) * total * POINTS_A_COMMIT // POINTS
        folder.finish({config.run_id: {"status": "done"} for config in configs})
        folder.write_state(phase="done", step=total, lanes=len(configs))
        return True

    def split(self, old: PackFolder, new: PackFolder) -> None:
        commit = old.last_commit()
        if commit is None:
            raise RecordError(f"{old.path}: nothing is committed")
        rows = pa.concat_tables(pq.read_table(part, schema=SCHEMA) for part in old.parts())
        kept = [run_id in new.run_ids() for run_id in rows["run_id"].to_pylist()]
        new.commit(commit.step, rows.filter(pa.array(kept)), commit.checkpoint)


def search_of(**changes: Any) -> search.Search:
    """A search for the best ratio, small and valid."""
    raw: dict[str, Any] = {
        "name": "syn", "question": "Where is the top of the parabola?", "tasks": ["minatar/breakout"],
        "total_steps": 4000, "seeds": 3, "trials": 24, "base": {"num_envs": 8, "replay_size": 400, "batch_size": 8},
        "space": {"ratio": {"log": [0.01, 100]}},
    }  # fmt: skip
    return search.parse(raw | changes, "syn.yaml")


def _rows(configs: Sequence[RunConfig], step: int, values: Sequence[float]) -> pa.Table:
    lanes = len(configs)
    columns = {name: np.zeros(lanes, np.float32) for name in METRICS} | {"return": np.array(values, np.float32)}
    return pa.Table.from_pydict(
        {
            "run_id": pa.array([config.run_id for config in configs]).dictionary_encode(),
            "step": np.full(lanes, step),
            **columns,
            "diverged": np.zeros(lanes, bool),
            "steps_per_second": np.zeros(lanes, np.float32),
        },
        schema=SCHEMA,
    )


if __name__ == "__main__":
    folder, together, seconds = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)
    trainer = SyntheticTrainer(lambda: time.sleep(float(seconds)))
    sys.exit(Worker(study_in(Path(folder)), trainer, int(together)).work())
