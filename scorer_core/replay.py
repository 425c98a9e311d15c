"""Replay of ONE run: a ring of vector steps in which every observation is kept once.

Row t holds what all N environments saw and did at vector step t; the observation that followed is in row t + 1. One row
more than the capacity makes room for the newest. Where a task truncates, the observation before a reset must be kept
too: a truncated episode is bootstrapped from it, and row t + 1 holds the next episode's first.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from scorer_core.game import Batch


class Replay(NamedTuple):
    observation: Tensor  # [rows, N, *observation_shape]
    action: Tensor  # [rows, N] int64
    reward: Tensor  # [rows, N] float32
    terminated: Tensor  # [rows, N] bool
    truncated: Tensor  # [rows, N] bool; without elements where the task never truncates
    final_observation: Tensor  # [rows, N, *observation_shape]; without elements where the task never truncates


def rows(replay_size: int, num_envs: int) -> int:
    """Rows of the ring: whole vector steps within `replay_size`, and the newest observation's."""
    return replay_size // num_envs + 1


def sample(replay: Replay, vector_step: Tensor, drawn: Tensor) -> Batch:
    """The transitions numbered by `drawn` [B], integers in [0, kept): 0 to N - 1 are of the newest vector step."""
    num_rows, num_envs = replay.action.shape
    row, env = (vector_step - 1 - drawn // num_envs) % num_rows, drawn % num_envs
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
    """Transitions in a ring of `num_rows` rows after `vector_step` vector steps."""
    return min(vector_step, num_rows - 1) * num_envs
