"""Verdicts on rows built to earn them, and on healthy ones; and what a finished pack says of its runs."""

from typing import Any

import numpy as np
import pytest
import torch

from scorer_core import diagnostics
from scorer_core.config import RunConfig
from scorer_core.records import PackFolder
from scorer_core.train import train
from scorer_core.verdicts import COLUMNS, MEANINGS, PROBE, of_pack, verdicts

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


def solved(value, noise=0.0, **settings):
    """A run whose returns are `value` from its first row on."""
    returns = np.minimum(value + noise * np.random.default_rng(1).normal(size=ROWS), 500.0)
    return verdicts(healthy() | {"return": returns}, CONFIG.model_copy(update=settings))


def test_a_run_that_is_solved_from_its_first_row_is_not_stalled():
    assert solved(500.0, task="CartPole-v1") == []  # the highest possible return, in every row
    assert solved(500.0, task="LunarLander-v3") == []
    assert solved(485.0, noise=5.0, task="CartPole-v1") == []  # above the reference score, 475


def test_a_run_that_may_have_learned_before_its_first_row_is_compared_with_a_random_policy():
    """Exploration ends at 500 steps, the first row is at 1,000. A random policy has 0.38 on breakout."""
    assert solved(10.0, noise=1.0, epsilon_steps=500, learning_starts=0) == []
    assert solved(0.38, noise=0.1, epsilon_steps=500, learning_starts=0) == ["stalled"]
    unknown = {"task": "LunarLander-v3", "epsilon_steps": 500, "learning_starts": 0}
    assert solved(-110.0, noise=5.0, **unknown) == []
    falling = {"return": 10 - 10 * healthy()["step"] / 100_000 + np.random.default_rng(1).normal(size=ROWS)}
    assert verdicts(healthy() | falling, CONFIG.model_copy(update=unknown)) == ["stalled"]


def test_a_run_that_learns_within_its_first_tenth_is_not_stalled():
    """The first of its rows is from before the end of exploration."""
    config = CONFIG.model_copy(update={"epsilon_steps": 2_500, "learning_starts": 500, "task": "LunarLander-v3"})
    returns = np.where(np.arange(ROWS) < 2, 0.0, 10.0) + 0.3 * np.random.default_rng(1).normal(size=ROWS)
    assert verdicts(healthy() | {"return": returns}, config) == []


@pytest.mark.parametrize("value", [0.0, -200.0])
def test_a_run_that_never_leaves_the_lowest_return_is_stalled(value):
    assert solved(value, task="MountainCar-v0") == ["stalled"]


def test_stationary_autocorrelated_returns_are_stalled():
    """Errors as if rows were independent call only 6 of 10 such runs stalled."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(200):
        returns = 1 + 0.3 * correlated(rng, ROWS, 0.9)
        found += verdicts(healthy() | {"return": returns}, CONFIG) == ["stalled"]
    assert found >= 180


def test_rows_without_a_return_count_nowhere():
    missing = np.arange(ROWS) < 20
    learns = np.where(missing, np.nan, -200 + 90 * healthy()["step"] / 100_000)
    assert verdicts(healthy() | {"return": learns}, CONFIG) == []
    stuck = np.where(missing, np.nan, -200.0)
    assert verdicts(healthy() | {"return": stuck}, CONFIG) == ["stalled"]
    assert verdicts(healthy() | {"return": np.full(ROWS, np.nan), "q_max": np.full(ROWS, 99.0)}, CONFIG) == []


@pytest.mark.parametrize(
    ("features", "srank", "found"),
    [(4096, 200.0, []), (4096, 30.0, []), (4096, 20.0, ["collapsed"]), (512, 30.0, []), (64, 6.0, ["collapsed"])],
)
def test_the_srank_of_a_wide_network_is_compared_with_what_the_probe_can_show(features, srank, found):
    """A probe of 256 transitions has at most 256 singular values: below 10 % of 4,096 features is every srank."""
    config = CONFIG.model_copy(update={"phi_widths": (features,)})
    assert diagnostics.PROBE == PROBE
    assert verdicts(healthy() | {"srank": np.full(ROWS, srank)}, config) == found


@pytest.mark.parametrize(
    ("gamma", "per_episode", "q_max", "found"),
    [
        (0.99, -200.0, -100.0, []),
        (0.99, -200.0, -1e5, ["diverged"]),  # the highest of the values, so all of them fall
        (0.99, -200.0, 1e5, ["diverged"]),
        (0.9999, -200.0, -9_000.0, []),  # -1 per step without an end is worth -10,000
        (0.9999, -200.0, -1e5, ["diverged"]),
        (0.9999, 200.0, 9_000.0, []),
        (1.0, -200.0, -200.0, []),
    ],
)
def test_values_are_too_large_only_beyond_what_rewards_can_add_up_to(gamma, per_episode, q_max, found):
    """Episodes of 200 steps with the same reward at each."""
    config = CONFIG.model_copy(update={"gamma": gamma, "total_steps": 10_000_000})
    rows = healthy()
    rows["step"] = rows["step"] * 100
    rows["episodes"] = rows["step"] / 200
    rows["return"] = per_episode + 0.1 * np.arange(ROWS)
    assert verdicts(rows | {"q_max": np.full(ROWS, q_max)}, config) == found


def test_one_jump_of_the_loss_is_no_oscillation():
    msbe = 0.2 * np.where(np.arange(ROWS) < 72, 1.0, 20.0) * np.exp(0.1 * np.random.default_rng(0).normal(size=ROWS))
    assert verdicts(healthy() | {"msbe": msbe}, CONFIG) == []


def correlated(rng, rows, phi):
    series = np.zeros(rows)
    for row in range(rows):
        series[row] = rng.normal() if row == 0 else phi * series[row - 1] + np.sqrt(1 - phi**2) * rng.normal()
    return series


def test_a_run_that_has_only_begun_is_not_stalled():
    rows = {name: column[:30] for name, column in healthy().items()}
    assert verdicts(rows | {"return": np.ones(30)}, CONFIG) == []


def test_a_run_without_rows_earns_none():
    assert verdicts({name: column[:0] for name, column in healthy().items()}, CONFIG) == []


@pytest.mark.usefixtures("untraced")
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
