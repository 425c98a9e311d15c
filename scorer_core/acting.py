"""Epsilon-greedy actions of ONE run."""

import torch
from torch import Tensor

from scorer_core import networks, optim
from scorer_core.game import Lane, Players
from scorer_core.networks import Shape


def epsilon(lane: Lane, env_step: Tensor) -> Tensor:
    """Exploration rate [] after `env_step` ([] int64) environment steps: linear, then constant."""
    return optim.linear(lane.epsilon_start, lane.epsilon_end, env_step / lane.epsilon_steps)


def act(
    players: Players,
    observation: Tensor,
    explore: Tensor,
    random_action: Tensor,
    env_step: Tensor,
    lane: Lane,
    shape: Shape,
) -> Tensor:
    """Actions [N] for `observation` [N, *observation_shape].

    The greedy action, or `random_action` [N] if `explore` [N], uniform in [0, 1), is below epsilon.
    """
    values = networks.action_values(players.phi, players.theta, observation, shape)
    return torch.where(explore < epsilon(lane, env_step), random_action, values.argmax(-1))
