"""Environments, as a pack meets them: P lanes x N environments of one task, stepped in lockstep.

An implementation gives every lane the episodes it would see alone: environment n of a lane is a function of the
lane's seed and n, whatever the other lanes are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from scorer_core.config import RunConfig
from scorer_core.registry import SUITES


@dataclass
class Step:
    """One transition of all environments. An environment that ended has been reset: `observation` starts anew."""

    observation: Tensor  # [P, N, *observation_shape], what to act on next
    reward: Tensor  # [P, N] float32
    terminated: Tensor  # [P, N] bool: the episode ended in the task; there is nothing to bootstrap from
    truncated: Tensor  # [P, N] bool: the episode was cut off; its last state still has a value
    final_observation: Tensor | None  # [P, N, *observation_shape] before any reset; None if the task never truncates


class Environments(Protocol):
    @property
    def observation_shape(self) -> tuple[int, ...]: ...

    @property
    def observation_dtype(self) -> torch.dtype:
        """As replay keeps it: uint8 for pictures, else float32."""
        ...

    @property
    def num_actions(self) -> int: ...

    @property
    def truncates(self) -> bool:
        """May an episode be cut off?"""
        ...

    @property
    def pickled(self) -> bool:
        """Does `state` hold a pickle, which can run code when it is restored?"""
        ...

    def reset(self) -> Tensor:
        """Start every environment; the first observation, [P, N, *observation_shape]."""
        ...

    def step(self, actions: Tensor) -> Step:
        """Apply `actions`, [P, N] int64."""
        ...

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which `restore` continues bit for bit, and the name of their `format`."""
        ...

    def restore(self, state: dict[str, Any], lanes: Sequence[int] | None = None) -> None:
        """Continue from `state`, of as many lanes as these; or of others, whose `lanes` these are.

        The format "pickle" runs the code that it holds: the caller has checked who can have written it.

        Raises:
            ValueError: if `state` does not fit these environments; the message names the key.
        """
        ...


def make(config: RunConfig, seeds: Tensor) -> Environments:
    """The environments of a pack whose lanes have `seeds` [P], on the device of `seeds`."""
    family, _, game = config.task.partition("/")
    if family in SUITES:
        from scorer_core.envs.compiled import CompiledEnvironments

        return CompiledEnvironments(game, family, seeds, config.num_envs, config.action_set, seeds.device)
    from scorer_core.envs.gymnasium import GymnasiumEnvironments

    return GymnasiumEnvironments(config.task, seeds.tolist(), config.num_envs)
