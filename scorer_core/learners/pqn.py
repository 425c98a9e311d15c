"""PQN (Gallici et al. 2025): rollouts of many environments and lambda-returns; no replay, no target networks.

T vector steps with the online networks;    G_t = r_t + gamma (1 - terminated_t)
                                                  [lambda G_{t+1} + (1 - lambda) max_a Q(s_{t+1}, a)]
`epochs` times: the rollout in a new order, in `minibatches` parts: one update of the coupling each, with Y = G
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
from scorer_core.memory.rollout import Rollout, lambda_returns, order
from scorer_core.noise import Stream

SORT_KEYS = 2**38  # so many that two transitions hardly ever have the same one


class RolloutBatch(NamedTuple):
    """Transitions of a rollout, with their lambda-returns."""

    observation: Tensor  # [B, *observation_shape]
    action: Tensor  # [B] int64
    target: Tensor  # [B]


class PQN(Learner):
    """Parallelised Q-network; each minibatch is one update."""

    finishes = True

    def target(self, players: Players, batch: RolloutBatch, lane: Lane) -> Tensor:  # noqa: ARG002
        return batch.target

    def kept(self, values: Tensor) -> Tensor:
        """max_a Q(s, a) [N]."""
        return values.max(-1).values

    def new_memory(self, observation: Tensor, truncates: bool) -> Rollout:
        new = ring.new(self.config.rollout_steps, observation, truncates)
        return Rollout(new, torch.zeros_like(new.reward), torch.zeros_like(new.reward))

    def store(self, memory: Rollout, vector_step: int, transition: Transition) -> None:
        ring.store(memory.ring, vector_step, transition)
        memory.value[vector_step % len(memory.value)] = transition.kept

    def recent(self, memory: Rollout) -> Ring:
        return memory.ring

    def parts(self, vector_step: int) -> int:
        return 0 if vector_step % self.config.rollout_steps else self.config.epochs

    def finish(self, players: Players, memory: Rollout, vector_step: Tensor, lane: Lane) -> Tensor:
        """The lambda-returns [rows, N] of the complete rollout, each in the row of its transition."""
        seen, at = memory.ring, order(memory.ring, vector_step)

        def value(observation: Tensor) -> Tensor:
            return self.kept(networks.action_values(players.phi, players.theta, observation, self.shape))

        reward = seen.reward[at]
        if seen.truncated.numel():
            truncated, final = seen.truncated[at], seen.final_observation[at]
            final_value = value(final.flatten(0, 1)).view_as(reward)
        else:
            truncated, final_value = torch.zeros_like(reward, dtype=torch.bool), torch.zeros_like(reward)
        returns = lambda_returns(
            reward,
            seen.terminated[at].to(torch.float32),
            truncated,
            memory.value[at],
            value(seen.observation[vector_step.unsqueeze(0) % len(seen.action)].squeeze(0)),
            final_value,
            lane.gamma,
            lane.td_lambda,
            self.config.lambda_start,
        )
        return torch.zeros_like(memory.target).index_copy(0, at, returns)

    def keep(self, memory: Rollout, finished: Tensor) -> None:
        memory.target.copy_(finished)

    def draws(self, seed: Tensor, vector_step: int, part: int) -> Iterator[Draws]:
        config = self.config
        transitions, epoch = config.rollout_steps * config.num_envs, vector_step * config.epochs + part

        def permutation(stream: int, step: int) -> tuple[Tensor, ...]:
            """All indices of the rollout in random order, in minibatches [..., B]."""
            keys = noise.integers(seed, step, stream, (transitions,), SORT_KEYS)
            return keys.argsort(dim=-1, stable=True).split(config.batch_transitions, -1)

        own = range(config.follower_steps if config.batches == "separate" else 0)
        leader = permutation(Stream.LEADER_BATCH, epoch)
        followers = [permutation(Stream.FOLLOWER_BATCH, epoch * config.follower_steps + k) for k in own]
        for m in range(config.minibatches):
            yield Draws(leader[m], tuple(minibatches[m] for minibatches in followers))

    def batch(self, memory: Rollout, vector_step: Tensor, indices: Tensor) -> RolloutBatch:
        row, env = ring.place(memory.ring, vector_step, indices)
        return RolloutBatch(memory.ring.observation[row, env], memory.ring.action[row, env], memory.target[row, env])

    def probe_target(self, players: Players, batch: Batch, lane: Lane) -> Tensor:
        """Y [B] of one step: a lambda-return would be that of older networks."""
        next_values = networks.action_values(players.phi, players.theta, batch.next_observation, self.shape)
        return objectives.td_target(batch.reward, batch.terminated, next_values, lane.gamma)
