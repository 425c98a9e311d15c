"""Verdicts on rows built to earn them, and on healthy ones; and what a finished pack says of its runs."""

from typing import Any

import numpy as np
import pytest
import torch

from scorer_core.config import RunConfig
from scorer_core.records import PackFolder
from scorer_core.train import train
from scorer_core.verdicts import COLUMNS, MEANINGS, of_pack, verdicts

ROWS = 100
CONFIG = RunConfig(task="minatar/breakout", total_steps=100_000, num_envs=10)


def healthy() -> dict[str, np.ndarray]:
    time = np.arange(1, ROWS + 1) / ROWS
    noise = np.random.default_rng(0).normal(size=ROWS)
    read = np.arange(ROWS) % 10 == 9
    return {
        "step": (time * 100_000).astype(np.int64),
        "episodes": (1_000 * time).astype(np.float32),
        "return": 10 * time + 0.3 * noise,
        "msbe": 0.2 * np.exp(-time + 0.1 * noise),
        "srank": np.where(read, 110.0, np.nan),
        "dormant": np.where(read, 0.02, np.nan),
        "q_max": np.where(read, 5 * time, np.nan),
        "diverged": np.zeros(ROWS, bool),
    }


def late(values: np.ndarray, value: float, since: float = 0.85) -> np.ndarray:
    return np.where(np.isnan(values), np.nan, np.where(np.arange(ROWS) >= since * ROWS, value, values))


def test_a_healthy_run_earns_none():
    rows = healthy()
    assert set(rows) == set(COLUMNS)
    assert verdicts(rows, CONFIG) == []


def swinging(rows):
    return np.exp(np.log(rows["msbe"]) + np.sin(np.arange(ROWS)) * 1.2)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (lambda rows: {"srank": late(rows["srank"], 8.0)}, "collapsed"),
        (lambda rows: {"dormant": late(rows["dormant"], 0.6)}, "collapsed"),
        (lambda _: {"diverged": np.arange(ROWS) > 90}, "diverged"),
        (lambda rows: {"q_max": late(rows["q_max"], 150.0)}, "diverged"),
        (lambda rows: {"msbe": swinging(rows)}, "oscillating"),
        (lambda rows: {"return": rows["return"] - 10 * rows["step"] / 100_000 + 1}, "stalled"),
        (lambda rows: {"return": -rows["return"]}, "stalled"),
    ],
)
def test_each_verdict_is_earned_by_what_it_says(change, verdict):
    rows = healthy()
    assert verdicts(rows | change(rows), CONFIG) == [verdict]


@pytest.mark.parametrize(
    "change",
    [
        lambda _: {"srank": np.where(np.arange(ROWS) < 50, 5.0, 110.0)},
        lambda rows: {"msbe": 0.2 * np.exp(-8 * rows["step"] / 100_000)},
        lambda rows: {"q_max": late(rows["q_max"], 90.0)},
        lambda rows: {
            "srank": rows["srank"] * np.nan,
            "dormant": rows["srank"] * np.nan,
            "q_max": rows["srank"] * np.nan,
        },
        lambda rows: {"return": np.where(np.arange(ROWS) < 60, rows["return"], 6.0)},
    ],
    ids=["early collapse", "a falling loss", "large values", "nothing read", "a plateau"],
)
def test_what_passes_or_is_not_known_earns_none(change):
    rows = healthy()
    assert verdicts(rows | change(rows), CONFIG) == []


def test_a_run_that_has_only_begun_is_not_stalled():
    rows = {name: column[:30] for name, column in healthy().items()}
    assert verdicts(rows | {"return": np.ones(30)}, CONFIG) == []


def test_a_run_without_rows_earns_none():
    assert verdicts({name: column[:0] for name, column in healthy().items()}, CONFIG) == []


def test_a_pack_says_its_verdicts_while_it_runs_and_when_it_is_done(tmp_path):
    small: dict[str, Any] = {
        "task": "minatar/breakout", "num_envs": 4, "update_every": 4, "total_steps": 2000, "learning_starts": 40,
        "batch_size": 8, "replay_size": 400, "log_points": 10, "phi_widths": (12,), "theta_widths": (8,),
    }  # fmt: skip
    configs = [RunConfig(seed=seed, **small) for seed in (0, 1)]
    configs.append(RunConfig(leader_lr=1e30, follower_lr=1e30, max_grad_norm=1e30, **small))
    folder = PackFolder.create(tmp_path, configs)
    assert of_pack(folder) == {config.run_id: [] for config in configs}
    train(folder, torch.device("cpu"), 0.0, lambda: bool(folder.parts()))
    assert of_pack(folder).keys() == {config.run_id for config in configs}
    assert train(folder, torch.device("cpu"), 60.0, lambda: False)
    done = folder.done()
    assert {run_id: entry["verdicts"] for run_id, entry in done.items()} == of_pack(folder)
    blown = done[configs[2].run_id]
    assert blown["status"] == "diverged"
    assert "diverged" in blown["verdicts"]
    assert all(verdict in MEANINGS for entry in done.values() for verdict in entry["verdicts"])
