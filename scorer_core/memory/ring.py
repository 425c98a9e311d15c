"""A ring of the newest vector steps of ONE run, which stores every observation once.

Row t holds the observations, actions, rewards and ends of all N environments at vector step t; the next observation is
in row t + 1, so the ring has one row more than its capacity. If a task truncates episodes, the observation before a
reset is stored too: the target of a truncated transition needs it, and row t + 1 holds the next episode's first one.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from scorer_core.game import Batch


class Ring(NamedTuple):
    """The stored transitions of one run, or of a pack with the runs as first axis."""

    observation: Tensor  # [rows, N, *observation_shape]
    action: Tensor  # [rows, N] int64
    reward: Tensor  # [rows, N] float32
    terminated: Tensor  # [rows, N] bool
    truncated: Tensor  # [rows, N] bool; empty if the task never truncates
    final_observation: Tensor  # [rows, N, *observation_shape]; empty if the task never truncates


class Transition(NamedTuple):
    """What one vector step adds to a memory."""

    action: Tensor  # [N] int64
    reward: Tensor  # [N]
    terminated: Tensor  # [N] bool: the episode ended in the task
    truncated: Tensor  # [N] bool: the episode was cut off
    final_observation: Tensor | None  # [N, *observation_shape] before any reset; None if the task never truncates
    observation: Tensor  # [N, *observation_shape] for the next action
    kept: Any  # what `Learner.act` returned besides the actions


def new(capacity: int, observation: Tensor, truncates: bool) -> Ring:
    """An empty ring for `capacity` vector steps with observations like `observation` [N, *observation_shape]."""
    rows, num_envs = capacity + 1, len(observation)

    def zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(rows, num_envs, *shape, dtype=dtype, device=observation.device)

    seen = observation.shape[1:], observation.dtype
    return Ring(
        observation=zeros(*seen),
        action=zeros((), torch.int64),
        reward=zeros((), torch.float32),
        terminated=zeros((), torch.bool),
        truncated=zeros((), torch.bool) if truncates else zeros((0,), torch.bool),
        final_observation=zeros(*seen) if truncates else zeros((0,), torch.uint8),
    )


def store(ring: Ring, vector_step: int, transition: Transition) -> None:
    """Write the transition after `vector_step` vector steps, over the oldest one, in place."""
    rows = len(ring.action)
    row = vector_step % rows
    ring.observation[(row + 1) % rows] = transition.observation
    ring.action[row] = transition.action
    ring.reward[row] = transition.reward
    ring.terminated[row] = transition.terminated
    if transition.final_observation is not None:
        ring.truncated[row] = transition.truncated
        ring.final_observation[row] = transition.final_observation


def place(ring: Ring, vector_step: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Row and environment of the transitions at `indices` [B] int64, after `vector_step` ([] int64) vector steps.

    Index 0 is in the newest vector step: 0 to N - 1 are its N environments, N to 2 N - 1 those of the step before, and
    so on, up to `num_transitions` - 1.
    """
    num_rows, num_envs = ring.action.shape
    return (vector_step - 1 - indices // num_envs) % num_rows, indices % num_envs


def sample(ring: Ring, vector_step: Tensor, indices: Tensor) -> Batch:
    """The B transitions at `indices` [B] int64 (see `place`), after `vector_step` ([] int64) vector steps."""
    row, env = place(ring, vector_step, indices)
    if ring.final_observation.numel():
        next_observation = ring.final_observation[row, env]
    else:
        next_observation = ring.observation[(row + 1) % len(ring.action), env]
    return Batch(
        observation=ring.observation[row, env],
        action=ring.action[row, env],
        reward=ring.reward[row, env],
        terminated=ring.terminated[row, env].to(torch.float32),
        next_observation=next_observation,
    )


def num_transitions(vector_step: int, capacity: int, num_envs: int) -> int:
    """Number of transitions in a ring for `capacity` vector steps, after `vector_step` vector steps."""
    return min(vector_step, capacity) * num_envs
