"""Replay memory of ONE run: a ring of vector steps that stores every observation once.

Row t holds the observations, actions, rewards and ends of all N environments at vector step t; the next observation is
in row t + 1, so the ring has one row more than its capacity. If a task truncates episodes, the observation before a
reset is stored too: the target of a truncated transition needs it, and row t + 1 holds the next episode's first one.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from scorer_core.game import Batch


class Replay(NamedTuple):
    """The stored transitions of one run, or of a pack with the runs as first axis."""

    observation: Tensor  # [rows, N, *observation_shape]
    action: Tensor  # [rows, N] int64
    reward: Tensor  # [rows, N] float32
    terminated: Tensor  # [rows, N] bool
    truncated: Tensor  # [rows, N] bool; empty if the task never truncates
    final_observation: Tensor  # [rows, N, *observation_shape]; empty if the task never truncates


def ring_rows(replay_size: int, num_envs: int) -> int:
    """Rows of the ring: the whole vector steps in `replay_size` transitions, and one for the newest observation."""
    return replay_size // num_envs + 1


def sample(replay: Replay, vector_step: Tensor, indices: Tensor) -> Batch:
    """The B transitions at `indices` [B] int64, after `vector_step` ([] int64) vector steps.

    Index 0 is in the newest vector step: 0 to N - 1 are its N environments, N to 2 N - 1 those of the step before, and
    so on, up to `num_transitions` - 1.
    """
    num_rows, num_envs = replay.action.shape
    row, env = (vector_step - 1 - indices // num_envs) % num_rows, indices % num_envs
    if replay.final_observation.numel():
        next_observation = replay.final_observation[row, env]
    else:
        next_observation = replay.observation[(row + 1) % num_rows, env]
    return Batch(
        observation=replay.observation[row, env],
        action=replay.action[row, env],
        reward=replay.reward[row, env],
        terminated=replay.terminated[row, env].to(torch.float32),
        next_observation=next_observation,
    )


def num_transitions(vector_step: int, num_rows: int, num_envs: int) -> int:
    """Number of transitions in a ring of `num_rows` rows after `vector_step` vector steps."""
    return min(vector_step, num_rows - 1) * num_envs
