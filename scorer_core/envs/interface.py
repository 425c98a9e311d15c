"""The interface between a pack and its environments: P lanes x N environments of one task, stepped in lockstep.

Every lane has the episodes that it would have alone: environment n of a lane depends on the lane's seed and on n only.
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
    """One transition of all environments. An environment whose episode ended was reset."""

    observation: Tensor  # [P, N, *observation_shape] for the next action
    reward: Tensor  # [P, N] float32
    terminated: Tensor  # [P, N] bool: the episode ended in the task; no bootstrap value follows
    truncated: Tensor  # [P, N] bool: the episode was cut off; its last state has a bootstrap value
    final_observation: Tensor | None  # [P, N, *observation_shape] before any reset; None if the task never truncates


class Environments(Protocol):
    @property
    def observation_shape(self) -> tuple[int, ...]: ...

    @property
    def observation_dtype(self) -> torch.dtype:
        """Of the observations in the replay: uint8 for images, otherwise float32."""
        ...

    @property
    def sparse(self) -> bool:
        """Are most elements of an observation 0?"""
        ...

    @property
    def num_actions(self) -> int: ...

    @property
    def truncates(self) -> bool:
        """Can an episode be truncated?"""
        ...

    @property
    def pickled(self) -> bool:
        """Does `state` hold a pickle, which can run code when it is restored?"""
        ...

    def reset(self) -> Tensor:
        """Start every environment; returns the first observations [P, N, *observation_shape]."""
        ...

    def step(self, actions: Tensor) -> Step:
        """One step of every environment with `actions` [P, N] int64."""
        ...

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which `restore` continues bit for bit, and the name of their `format`."""
        ...

    def restore(self, state: dict[str, Any], lanes: Sequence[int] | None = None) -> None:
        """Continue from `state`, of these lanes; or of a larger pack, in which these are the `lanes`.

        The format "pickle" runs the code that it contains: the caller must have checked who could have written it.

        Raises:
            ValueError: if `state` does not fit these environments; the message names the key.
        """
        ...


def make(config: RunConfig, seeds: Tensor) -> Environments:
    """The environments of a pack whose lanes have `seeds` [P] int64, on the device of `seeds`."""
    family, _, game = config.task.partition("/")
    if family in SUITES:
        from scorer_core.envs.compiled import CompiledEnvironments

        return CompiledEnvironments(game, family, seeds, config.num_envs, config.action_set, seeds.device)
    from scorer_core.envs.gymnasium import GymnasiumEnvironments

    return GymnasiumEnvironments(config.task, seeds.tolist(), config.num_envs)
