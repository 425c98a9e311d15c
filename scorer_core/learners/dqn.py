"""DQN, Double DQN and their dueling forms: a replay of transitions, and target networks.

Y = r + gamma (1 - terminated) max_a' Q_theta_target(f_phi_target(s'), a')       every target_every steps:
                                                                   phi_target <- phi, theta_target <- theta
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from scorer_core import networks, noise, objectives
from scorer_core.game import Batch, Lane, Players
from scorer_core.learners.learner import Draws, Learner
from scorer_core.memory import ring
from scorer_core.memory.ring import Ring, Transition
from scorer_core.noise import Stream


class Targets(NamedTuple):
    """The target networks."""

    phi: Tensor
    theta: Tensor


class DQN(Learner):
    """Mnih et al. 2015; with `double` van Hasselt et al. 2016, with a dueling head Wang et al. 2016."""

    def new_players(self, seed: Tensor) -> Players:
        players = super().new_players(seed)
        return players._replace(targets=Targets(players.phi, players.theta))

    def target(self, players: Players, batch: Batch, lane: Lane) -> Tensor:
        """Y [B], from the target copies of both players; with Double Q-learning the online control chooses the action.

        Whose features the online control chooses on is `double_features` (van Hasselt et al. 2016 choose and evaluate
        with whole networks).
        """
        shape, config = self.shape, self.config
        z = networks.perception(networks.layers(players.targets.phi, shape.phi), batch.next_observation, shape)
        next_values = networks.control(networks.layers(players.targets.theta, shape.theta), z, shape)
        if not config.double:
            return objectives.td_target(batch.reward, batch.terminated, next_values, lane.gamma)
        if config.double_features == "online":
            z = networks.perception(networks.layers(players.phi, shape.phi), batch.next_observation, shape)
        chosen_by = networks.control(networks.layers(players.theta, shape.theta), z, shape)
        return objectives.td_target(batch.reward, batch.terminated, next_values, lane.gamma, chosen_by)

    def new_memory(self, observation: Tensor, truncates: bool) -> Ring:
        return ring.new(self.config.replay_size // self.config.num_envs, observation, truncates)

    def store(self, memory: Ring, vector_step: int, transition: Transition) -> None:
        ring.store(memory, vector_step, transition)

    def recent(self, memory: Ring) -> Ring:
        return memory

    def parts(self, vector_step: int) -> int:
        config = self.config
        started = vector_step * config.num_envs > config.learning_starts
        return int(started and self._is_due(vector_step, config.update_every))

    def draws(self, seed: Tensor, vector_step: int, part: int) -> Iterator[Draws]:  # noqa: ARG002, there is only one
        config = self.config
        stored = ring.num_transitions(vector_step, config.replay_size // config.num_envs, config.num_envs)

        def draw(stream: int, k: int) -> Tensor:
            """Indices [..., B] of the batch for step `k` of this update."""
            step = vector_step * config.follower_steps + k
            return noise.integers(seed, step, stream, (config.batch_size,), stored)

        own = range(config.follower_steps if config.batches == "separate" else 0)
        yield Draws(draw(Stream.LEADER_BATCH, 0), tuple(draw(Stream.FOLLOWER_BATCH, k) for k in own))

    def batch(self, memory: Ring, vector_step: Tensor, indices: Tensor) -> Batch:
        return ring.sample(memory, vector_step, indices)

    def copies_targets(self, vector_step: int, target_every: int) -> bool:
        return self._is_due(vector_step, target_every)

    def sync_targets(self, players: Players, due: Tensor) -> Players:
        phi = torch.where(due, players.phi, players.targets.phi)
        return players._replace(targets=Targets(phi, torch.where(due, players.theta, players.targets.theta)))

    def _is_due(self, vector_step: int, period: int) -> bool:
        """Did this vector step cross a multiple of `period` environment steps?"""
        num_envs = self.config.num_envs
        return (vector_step - 1) * num_envs // period != vector_step * num_envs // period
