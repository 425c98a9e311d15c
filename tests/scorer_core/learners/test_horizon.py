"""`decay_steps`: the learning rates and the exploration of a run of another length."""

from typing import Any

import pytest
import torch

from scorer_core.config import RunConfig
from scorer_core.metrics import TABLE, Kind
from scorer_core.pack import Pack

SMALL: dict[str, Any] = {
    "task": "minatar/breakout", "num_envs": 6, "update_every": 6, "learning_starts": 30, "batch_size": 10,
    "replay_size": 120, "rollout_steps": 5, "minibatches": 3, "phi_widths": (12,), "theta_widths": (8,),
    "target_every": 60, "epsilon_steps": 0.5,
}  # fmt: skip
COLUMNS = [name for name, metric in TABLE.items() if metric.kind is Kind.LOGGED]


def rows(**settings: Any) -> list[dict[str, str]]:
    """The logged rows; values as text, in which NaN equals NaN."""
    pack, logged = Pack([RunConfig(**SMALL | settings)], torch.device("cpu")), []
    while not pack.finished:
        pack.step()
        if pack.log_is_due:
            logged += pack.log(0.0).select(["step", *COLUMNS]).to_pylist()
    return [{name: str(value) for name, value in row.items()} for row in logged]


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("algorithm", ["dqn", "pqn"])
def test_a_short_run_with_the_horizon_of_a_long_one_is_its_beginning(algorithm):
    long = rows(algorithm=algorithm, total_steps=600, log_points=10)
    short = rows(algorithm=algorithm, total_steps=300, decay_steps=600, log_points=5)
    assert short == long[:5]
    other = rows(algorithm=algorithm, total_steps=300, log_points=5)
    assert other[-1]["leader_lr"] != short[-1]["leader_lr"]
    assert other[1]["epsilon"] != short[1]["epsilon"]


def test_after_their_horizon_rates_and_exploration_stay_at_their_end():
    last = rows(total_steps=600, decay_steps=300, lr_end=0.1, log_points=5)[-1]
    assert float(last["leader_lr"]) == pytest.approx(0.1 * 1e-4)
    assert float(last["epsilon"]) == pytest.approx(0.01)
