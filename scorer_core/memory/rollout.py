"""A rollout of T vector steps of ONE run, and the lambda-returns of its transitions. N: environments."""

from typing import NamedTuple

import torch
from torch import Tensor

from scorer_core.memory.ring import Ring


class Rollout(NamedTuple):
    """The newest T vector steps. Row t of `value` and `target` belongs to row t of the ring."""

    ring: Ring
    value: Tensor  # [rows, N] max_a Q(s_t, a) when the action was chosen
    target: Tensor  # [rows, N] the lambda-return, once the rollout is complete


def order(ring: Ring, vector_step: Tensor) -> Tensor:
    """The rows [T] of the newest T vector steps, in the order of time."""
    rows = len(ring.action)
    return (vector_step - (rows - 1) + torch.arange(rows - 1, device=ring.action.device)) % rows


def lambda_returns(
    reward: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    value: Tensor,
    last_value: Tensor,
    final_value: Tensor,
    gamma: Tensor,
    td_lambda: Tensor,
    start: str = "exact",
) -> Tensor:
    """The lambda-returns G [T, N] of a rollout (Gallici et al. 2025).

        G_t = r_t + gamma (1 - terminated_t) [lambda G_{t+1} + (1 - lambda) max_a Q(s_{t+1}, a)]

    The last G, and that of a truncated step, bootstrap from the action values of the state that follows.

    Args:
        reward: [T, N].
        terminated: [T, N] 1.0 where the episode ended in the task, else 0.0.
        truncated: [T, N] bool, where the episode was cut off.
        value: [T, N] max_a Q(s_t, a).
        last_value: [N] max_a Q(s_T, a).
        final_value: [T, N] max_a Q of the observation before a reset; read where an episode was truncated.
        gamma: [] discount.
        td_lambda: [] lambda.
        start: "official": in the last but one G, (1 - terminated_{T-1}) max_a Q(s_T, a) replaces max_a Q(s_{T-1}, a),
            as in the official code.
    """
    steps = len(reward)
    next_return = next_value = last_value
    found: list[Tensor] = []
    for t in reversed(range(steps)):
        mixed = next_value if t == steps - 1 else td_lambda * next_return + (1 - td_lambda) * next_value
        following = torch.where(truncated[t], final_value[t], mixed)
        next_return = reward[t] + gamma * (1 - terminated[t]) * following
        found.append(next_return)
        is_official = start == "official" and t == steps - 1
        next_value = (1 - terminated[t]) * last_value if is_official else value[t]
    return torch.stack(found[::-1])
