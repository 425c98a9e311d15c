"""A job that trains PQN: stopped in a rollout or between epochs, killed at any time. The metrics stay."""

import itertools
import os
import random
import signal
from typing import Any

import pytest
import torch

from scorer_core.config import RunConfig
from scorer_core.metrics import METRICS
from scorer_core.records import PackFolder
from scorer_core.train import split_pack, train
from tests.slurm.test_job import code_of, kill, start, step_of, wait_for

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "task": "minatar/breakout", "algorithm": "pqn", "num_envs": 8, "rollout_steps": 5, "minibatches": 4, "epochs": 3,
    "total_steps": 1_200, "log_points": 150, "phi_widths": (16,), "theta_widths": (8,), "optimizer": "radam",
    "layer_norm": "hidden",
}  # fmt: skip
CONFIGS = [RunConfig(**SETTINGS, seed=seed, td_lambda=0.5 + 0.2 * seed) for seed in range(2)]


def train_here(folder: PackFolder, stop_after: int | None = None) -> bool:
    """Train to the end, or for so many vector steps and parts of learning."""
    steps = itertools.count(1)
    return train(folder, CPU, 60.0, lambda: next(steps) == stop_after)


@pytest.mark.usefixtures("untraced")
def test_a_pack_that_stops_in_rollouts_and_between_epochs_and_is_split_there_has_the_rows_of_an_undisturbed_one(
    tmp_path,
):
    whole = PackFolder.create(tmp_path / "whole", CONFIGS)
    assert train_here(whole)
    stopped = PackFolder.create(tmp_path / "stopped", CONFIGS)
    places = []
    for stop_after in itertools.cycle([1, 2, 3, 5]):
        if train_here(stopped, stop_after):
            break
        places.append(stopped.committed_step() % 40)
        if len(places) == 6:  # split between two epochs
            assert places[-1] == 0
            for config in CONFIGS:
                alone = PackFolder.create(tmp_path / "alone", [config])
                split_pack(stopped, alone, CPU)
                assert train_here(alone)
                rows = alone.rows(["return", "msbe", "phi_norm"]).drop_columns(["run_id"]).to_pylist()
                expected = whole.rows(["return", "msbe", "phi_norm"], [config.run_id]).drop_columns(["run_id"])
                assert str(rows) == str(expected.to_pylist())
    assert 0 in places
    assert set(places) - {0}
    assert any(len(path.stem.split("-")) == 3 for path in stopped.parts()), "no step was committed twice with rows"
    columns = ["return", "msbe", "be_variance", "phi_norm", "epsilon"]
    assert str(stopped.rows(columns).to_pylist()) == str(whole.rows(columns).to_pylist())


@pytest.mark.slow
def test_killed_at_random_moments_pqn_has_the_metrics_of_an_uninterrupted_run(tmp_path):
    settings: dict[str, Any] = SETTINGS | {"total_steps": 40_000, "log_points": 50}
    longer = [RunConfig(**settings, seed=seed) for seed in range(2)]
    whole = PackFolder.create(tmp_path / "whole", longer)
    assert code_of(start(whole)) == 0
    folder, dice, kills = PackFolder.create(tmp_path / "killed", longer), random.Random(0), 0
    while kills < 6 and not folder.done():
        process, begun = start(folder, "--commit-seconds", "0.05"), step_of(folder)
        until = begun + dice.randrange(40, 1_500)
        wait_for(lambda process=process, until=until: step_of(folder) >= until or process.poll() is not None)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kill(process)
            kills += 1
    assert kills >= 3, "the runs must be longer on this machine"
    if not folder.done():
        assert code_of(start(folder)) == 0
    assert str(folder.rows(METRICS).to_pylist()) == str(whole.rows(METRICS).to_pylist()), "as text: NaN equals NaN"
