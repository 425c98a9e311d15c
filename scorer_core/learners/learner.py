"""The interface of a learner: how ONE run acts, what it keeps, when it learns and from which batches.

A coupling calls `target` and `errors`, and knows nothing else of a learner. The pack calls the rest: it vectorizes
`act`, `finish`, `batches` and `sync_targets` over its lanes. A new learner is a class in a file of its own and a line
in `registry.ALGORITHMS`; docs/extending.md has an example. N: environments, B: transitions in a batch, D: features.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scorer_core import game, networks, noise, objectives, optim
from scorer_core.game import Batch, Batches, Errors, Lane, Players
from scorer_core.memory.ring import Ring, Transition
from scorer_core.networks import Layers, Shape


class Draws(NamedTuple):
    """The transitions of one update, as indices into the memory: 0 is in the newest vector step (memory.ring.place)."""

    leader: Tensor  # [B] int64
    followers: tuple[Tensor, ...]  # [B] for each step of the follower; none if all steps have the leader's batch


class Learner(ABC):
    """One deep Q-learning algorithm for ONE run with this `shape`."""

    def __init__(self, shape: Shape):
        self.shape, self.config = shape, shape.config

    # --- what a coupling calls ---

    @abstractmethod
    def target(self, players: Players, batch: Any, lane: Lane) -> Tensor:
        """Y [B], a constant for both players."""

    def errors(self, phi: Layers, theta: Layers, batch: Any, target: Tensor) -> Errors:
        """The TD errors of the online networks, their features, and the weight of each error."""
        z = networks.perception(phi, batch.observation, self.shape)
        values = networks.control(theta, z, self.shape)
        return Errors(objectives.td_error(target, values, batch.action), z)

    # --- acting ---

    def new_players(self, seed: Tensor) -> Players:
        """The players of a new run with this `seed` ([] int64): initial networks, and optimizer states of zeros."""
        phi = networks.init(seed, noise.Stream.INIT_PHI, self.shape.phi)
        theta = networks.init(seed, noise.Stream.INIT_THETA, self.shape.theta)
        return Players(phi, theta, optim.init(phi), optim.init(theta), (), torch.zeros_like(seed))

    def act(self, players: Players, observation: Tensor, vector_step: Tensor, lane: Lane) -> tuple[Tensor, Any]:
        """Actions [N] for `observation` [N, *observation_shape], and what `store` keeps besides (`kept`).

        After `vector_step` ([] int64) vector steps. The greedy action, or with probability epsilon a random one.
        """
        values = networks.action_values(players.phi, players.theta, observation, self.shape)
        size = (self.config.num_envs,)
        explore = noise.uniform(lane.seed, vector_step, noise.Stream.EXPLORE, size)
        other = noise.integers(lane.seed, vector_step, noise.Stream.RANDOM_ACTION, size, self.shape.num_actions)
        epsilon = game.epsilon(lane, vector_step * self.config.num_envs)
        return torch.where(explore < epsilon, other, values.argmax(-1)), self.kept(values)

    def kept(self, values: Tensor) -> Any:  # noqa: ARG002
        """What `store` keeps of the action values [N, A], as a tree of tensors; () for nothing."""
        return ()

    # --- memory; in `store` and `keep`, each tensor may have the axis of the lanes before N ---

    @abstractmethod
    def new_memory(self, observation: Tensor, truncates: bool) -> Any:
        """A memory of zeros, as a tree of tensors.

        Args:
            observation: the first one [N, *observation_shape], of which the memory needs the sizes and the dtype.
            truncates: can an episode be truncated?
        """

    def begin(self, memory: Any, observation: Tensor) -> None:
        """Write the first observation into a new `memory`, in place."""
        self.recent(memory).observation[0] = observation

    @abstractmethod
    def store(self, memory: Any, vector_step: int, transition: Transition) -> None:
        """Write the transition after `vector_step` vector steps into `memory`, in place."""

    @abstractmethod
    def recent(self, memory: Any) -> Ring:
        """The newest transitions, for the diagnostics."""

    # --- learning ---

    @abstractmethod
    def parts(self, vector_step: int) -> int:
        """The number of parts of learning after this vector step; a run can stop and resume between two of them."""

    finishes = False  # does `finish` compute something?

    def finish(self, players: Players, memory: Any, vector_step: Tensor, lane: Lane) -> Any:
        """What the memory needs before the first part, as a tree of tensors."""
        raise NotImplementedError

    def keep(self, memory: Any, finished: Any) -> None:
        """Write what `finish` returned into `memory`, in place."""
        raise NotImplementedError

    @abstractmethod
    def draws(self, seed: Tensor, vector_step: int, part: int) -> Iterator[Draws]:
        """The random draws of each update of a part, for one `seed` [] or for many [P]."""

    @abstractmethod
    def batch(self, memory: Any, vector_step: Tensor, indices: Tensor) -> Any:
        """The transitions at `indices` [B], as `target` and `errors` take them."""

    def batches(self, memory: Any, vector_step: Tensor, draws: Draws) -> Batches:
        """The batches of one update."""
        leader = self.batch(memory, vector_step, draws.leader)
        followers = [self.batch(memory, vector_step, indices) for indices in draws.followers]
        return Batches(leader, followers or [leader] * self.config.follower_steps)

    def copies_targets(self, vector_step: int, target_every: int) -> bool:  # noqa: ARG002
        """Are the players copied to target networks after this vector step?"""
        return False

    def sync_targets(self, players: Players, due: Tensor) -> Players:  # noqa: ARG002
        """Copy both players to their targets where `due` ([] bool) is true."""
        return players

    # --- diagnostics ---

    def probe_target(self, players: Players, batch: Batch, lane: Lane) -> Tensor:
        """Y [B] of transitions that were drawn once; from the networks of `players`, as everything in a probe."""
        return self.target(players, batch, lane)
