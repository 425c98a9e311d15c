"""Deep Q-learning, monolithic and as a game, finds the known Q* of a small task."""

from typing import Any

import numpy as np
import pytest
import torch

from scorer_core import networks
from scorer_core.config import RunConfig
from scorer_core.pack import Pack
from tests.scorer_core import probes

GAMMA = 0.9
TOLERANCE = 0.04  # of values between 0.2 and 1; the sampling noise of a replay of 2,000 transitions is about 0.02


@pytest.mark.parametrize("coupling", ["monolithic", "scorer"])
def test_action_values_reach_q_star_of_a_chain(coupling):
    probes.register()
    settings: dict[str, Any] = {
        "task": "Probe/Chain-v0", "coupling": coupling, "num_envs": 10, "update_every": 10, "total_steps": 10_000,
        "learning_starts": 200, "replay_size": 2_000, "batch_size": 64, "phi_widths": (16,), "theta_widths": (16,),
        "normalise_input": False, "normalise_features": False, "leader_lr": 2e-3, "follower_lr": 4e-3, "gamma": GAMMA,
        "epsilon_start": 1.0, "epsilon_end": 1.0, "target_every": 400, "max_grad_norm": 10.0, "log_points": 1,
    }  # fmt: skip
    pack = Pack([RunConfig(**settings, seed=seed) for seed in range(3)], torch.device("cpu"))
    while not pack.finished:
        pack.step()
    values = torch.vmap(lambda phi, theta: networks.action_values(phi, theta, torch.eye(probes.STATES), pack.shape))
    learned = values(pack.players.phi, pack.players.theta).detach().numpy()
    optimal = probes.optimal_values(GAMMA)
    assert np.abs(learned - optimal).max() < TOLERANCE, (learned.round(3), optimal.round(3))
