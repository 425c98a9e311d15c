"""The algorithm box: what one round of the game between control (theta) and perception (phi) is made of, for ONE run.

    paper, Algorithm 1                                  here
    sample B_follower; phi <- phi - a_phi grad Var[d]     follow: descend("phi", ...), theta stands still
    sample B_leader; theta <- theta - a_theta grad E[d^2] lead: descend("theta", ...), meeting the new phi
    copy phi and theta to the targets                     sync_targets

Each player's gradient is with respect to its own parameters alone; the other's, and the target Y, are constants.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad, grad_and_value

from scorer_core import networks, noise, objectives, optim, registry
from scorer_core.config import RunConfig
from scorer_core.networks import Layers, Shape


class Batch(NamedTuple):
    observation: Tensor  # [B, *observation_shape]
    action: Tensor  # [B] int64
    reward: Tensor  # [B]
    terminated: Tensor  # [B] 1.0 where the episode ended in the task, else 0.0
    next_observation: Tensor  # [B, *observation_shape]


class Players(NamedTuple):
    """One run's players: parameter vectors, their target copies, Adam states, and the rounds played."""

    phi: Tensor
    theta: Tensor
    phi_target: Tensor
    theta_target: Tensor
    phi_adam: optim.Adam
    theta_adam: optim.Adam
    updates: Tensor


class Lane(NamedTuple):
    """The LANE settings of one run, each a scalar."""

    seed: Tensor
    leader_lr: Tensor
    follower_lr: Tensor
    lr_end: Tensor
    leader_power: Tensor
    follower_power: Tensor
    decay_rounds: Tensor
    follower_weight: Tensor
    leader_penalty_weight: Tensor
    max_grad_norm: Tensor
    gamma: Tensor
    epsilon_start: Tensor
    epsilon_end: Tensor
    epsilon_steps: Tensor
    target_every: Tensor


class StepInfo(NamedTuple):
    """What a player met on its batch, before its step: the loss it went down, its gradient's norm, its TD errors."""

    loss: Tensor
    grad_norm: Tensor
    delta: Tensor  # [B]


class Rates(NamedTuple):
    """The learning rates of one round."""

    leader: Tensor
    follower: Tensor


class Batches(NamedTuple):
    """What is drawn for one round: the leader's, and one for every step of the follower."""

    leader: Batch
    followers: Sequence[Batch]


# What a coupling is: players after a round, what the leader met, and what the follower met at its first step.
UpdateFn = Callable[[Players, Batches, Rates, Lane, Shape], tuple[Players, StepInfo, StepInfo]]
# (phi, theta, batch, target, lane, shape) -> the loss, and the TD errors [B] it is of.
Loss = Callable[[Layers, Layers, Batch, Tensor, Lane, Shape], tuple[Tensor, Tensor]]


def new_players(seed: Tensor, shape: Shape) -> Players:
    phi = networks.init(seed, noise.Stream.INIT_PHI, shape.phi)
    theta = networks.init(seed, noise.Stream.INIT_THETA, shape.theta)
    return Players(phi, theta, phi, theta, optim.adam_init(phi), optim.adam_init(theta), torch.zeros_like(seed))


def update(
    players: Players, leader_batch: Batch, follower_batches: Sequence[Batch], lane: Lane, shape: Shape
) -> tuple[Players, StepInfo, StepInfo]:
    """One round: the players after it, what the leader met, and what the follower met at its first step."""
    play: UpdateFn = registry.function(registry.COUPLINGS[shape.config.coupling].update)
    rates = learning_rates(players.updates, lane, shape.config)
    players = players._replace(rounds=players.updates + 1)
    return play(players, Batches(leader_batch, follower_batches), rates, lane, shape)


def descend(
    player: str, loss: Loss, players: Players, batch: Batch, lr: Tensor, lane: Lane, shape: Shape
) -> tuple[Players, StepInfo]:
    """One step of one `player`, "phi" or "theta", down its `loss`; the other stands still."""
    own, adam = getattr(players, player), getattr(players, f"{player}_adam")
    parts = {"phi": networks.layers(players.phi, shape.phi), "theta": networks.layers(players.theta, shape.theta)}
    target = bellman_target(players, batch, lane.gamma, shape)

    def of_own(own_layers: Layers) -> tuple[Tensor, Tensor]:
        now = parts | {player: own_layers}
        return loss(now["phi"], now["theta"], batch, target, lane, shape)

    gradient, (value, delta) = grad_and_value(of_own, has_aux=True)(parts[player])
    gradient = networks.flatten(gradient)
    scale, norm = optim.clip(gradient, lane.max_grad_norm)
    own, adam = optim.adam_step(own, gradient, adam, lr, scale)
    return players._replace(**{player: own, f"{player}_adam": adam}), StepInfo(value, norm, delta)


def descend_together(
    loss: Loss, players: Players, batch: Batch, theta_lr: Tensor, phi_lr: Tensor, lane: Lane, shape: Shape
) -> tuple[Players, StepInfo]:
    """One step of both down one `loss`: one gradient through both networks, clipped as one."""
    target = bellman_target(players, batch, lane.gamma, shape)

    def of_both(phi: Layers, theta: Layers) -> tuple[Tensor, Tensor]:
        return loss(phi, theta, batch, target, lane, shape)

    parts = networks.layers(players.phi, shape.phi), networks.layers(players.theta, shape.theta)
    gradients, (value, delta) = grad_and_value(of_both, argnums=(0, 1), has_aux=True)(*parts)
    phi_gradient, theta_gradient = map(networks.flatten, gradients)
    scale, norm = optim.clip(torch.cat([phi_gradient, theta_gradient]), lane.max_grad_norm)
    phi, phi_adam = optim.adam_step(players.phi, phi_gradient, players.phi_adam, phi_lr, scale)
    theta, theta_adam = optim.adam_step(players.theta, theta_gradient, players.theta_adam, theta_lr, scale)
    players = players._replace(phi=phi, theta=theta, phi_adam=phi_adam, theta_adam=theta_adam)
    return players, StepInfo(value, norm, delta)


def msbe_loss(
    phi: Layers, theta: Layers, batch: Batch, target: Tensor, lane: Lane, shape: Shape
) -> tuple[Tensor, Tensor]:
    """msbe, and the penalty on the features where one is set: the leader's loss where phi is its own (a Loss)."""
    delta, z = td_errors(phi, theta, batch, target, shape)
    loss = objectives.msbe(delta)
    if shape.config.leader_penalty != "none":
        loss = loss + lane.leader_penalty_weight * _penalty(shape.config)(z)
    return loss, delta


def follower_loss(
    phi: Layers, theta: Layers, batch: Batch, target: Tensor, lane: Lane, shape: Shape
) -> tuple[Tensor, Tensor]:
    """(1 - w) msbe + w f (a Loss): the ablation (eq. 8) at 0 and, with f the variance, the paper (eq. 9) at 1."""
    delta, z = td_errors(phi, theta, batch, target, shape)
    f = registry.function(registry.FOLLOWER_OBJECTIVES[shape.config.follower_objective])
    w = lane.follower_weight
    return (1 - w) * objectives.msbe(delta) + w * f(delta, z), delta


def leading_control_loss(
    phi: Layers, theta: Layers, batch: Batch, target: Tensor, lane: Lane, shape: Shape
) -> tuple[Tensor, Tensor]:
    """The loss of a leading control (a Loss): msbe, and the penalty where one is set.

    The features are not its own: holding them constant, it would not feel their penalty P. So P is taken where the
    follower's gradient step, of length one, is going to bring it, to first order: P - <grad_phi follower's loss,
    grad_phi P>, in which theta has its part.
    """
    delta, _ = td_errors(phi, theta, batch, target, shape)
    loss = objectives.msbe(delta)
    if shape.config.leader_penalty == "none":
        return loss, delta

    def penalised(phi: Layers) -> Tensor:
        z = networks.perception(phi, batch.observation, shape.config)
        return _penalty(shape.config)(z)

    def followed(phi: Layers) -> Tensor:
        return follower_loss(phi, theta, batch, target, lane, shape)[0]

    downhill, penalty = grad_and_value(penalised)(phi)
    along = (networks.flatten(grad(followed)(phi)) * networks.flatten(downhill)).sum()
    return loss + lane.leader_penalty_weight * (penalty - along), delta


def _penalty(config: RunConfig) -> Callable[[Tensor], Tensor]:
    return registry.function(registry.LEADER_PENALTIES[config.leader_penalty])


def td_errors(phi: Layers, theta: Layers, batch: Batch, target: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """The TD errors delta [B] of the online networks, and the features z [B, D]."""
    z = networks.perception(phi, batch.observation, shape.config)
    values = networks.control(theta, z, shape.config, shape.num_actions)
    return objectives.td_error(target, values, batch.action), z


def bellman_target(players: Players, batch: Batch, gamma: Tensor, shape: Shape) -> Tensor:
    """Y [B], from the target copies of both players; under Double the online control chooses the action."""
    config, theta = shape.config, networks.layers(players.theta_target, shape.theta)
    z = networks.perception(networks.layers(players.phi_target, shape.phi), batch.next_observation, config)
    next_values = networks.control(theta, z, config, shape.num_actions)
    if not config.double:
        return objectives.td_target(batch.reward, batch.terminated, next_values, gamma)
    if config.double_features == "online":
        z = networks.perception(networks.layers(players.phi, shape.phi), batch.next_observation, config)
    chosen_by = networks.control(networks.layers(players.theta, shape.theta), z, config, shape.num_actions)
    return objectives.td_target(batch.reward, batch.terminated, next_values, gamma, chosen_by)


def learning_rates(rounds: Tensor, lane: Lane, config: RunConfig) -> Rates:
    """After `rounds` rounds, ending where a run that learns from its first step would."""
    rate = registry.function(registry.SCHEDULES[config.schedule].rate)
    progress = (rounds / config.num_updates).clamp(0, 1)
    leader = rate(lane.leader_lr, lane.leader_power, lane, rounds, progress)
    return Rates(leader, rate(lane.follower_lr, lane.follower_power, lane, rounds, progress))


def sync_targets(players: Players, due: Tensor) -> Players:
    """Hard copies of both players to their targets where `due`."""
    phi_target = torch.where(due, players.phi, players.phi_target)
    return players._replace(phi_target=phi_target, theta_target=torch.where(due, players.theta, players.theta_target))
