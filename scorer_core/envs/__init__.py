"""Environments, as a pack meets them: P lanes x N environments of one task, stepped in lockstep.

An implementation gives every lane the episodes it would see alone: environment n of a lane is a function of the
lane's seed and n, whatever the other lanes are.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass
class Step:
    """One transition of all environments. An environment that ended has been reset: `observation` starts anew."""

    observation: Tensor  # [P, N, *observation_shape], what to act on next
    reward: Tensor  # [P, N] float32
    terminated: Tensor  # [P, N] bool: the episode ended in the task; there is nothing to bootstrap from
    truncated: Tensor  # [P, N] bool: the episode was cut off; its last state still has a value
    final_observation: Tensor | None  # [P, N, *observation_shape] before any reset; None if the task never truncates


class Environments(Protocol):
    observation_shape: tuple[int, ...]
    observation_dtype: torch.dtype  # as replay keeps it: uint8 for pictures of bits, else float32
    num_actions: int
    truncates: bool

    def reset(self) -> Tensor:
        """Start every environment; the first observation, [P, N, *observation_shape]."""
        ...

    def step(self, actions: Tensor) -> Step:
        """Apply `actions`, [P, N] int64."""
        ...

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on bit for bit, for torch.save."""
        ...

    def restore(self, state: dict[str, Any]) -> None: ...
