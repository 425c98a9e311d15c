"""SCORER, Algorithm 1 of the paper: one update of ONE run, in which control (theta) and perception (phi) learn.

    sample B_follower;  phi   <- phi   - a_follower grad_phi   Var[delta]       descend("phi", follower_loss)
    sample B_leader;    theta <- theta - a_leader   grad_theta E[delta^2]       descend("theta", leading_control_loss)
    every target_every steps: phi_target <- phi, theta_target <- theta          sync_targets

    delta = Y - Q_theta(f_phi(s), a)                                            td_errors
    Y     = r + gamma (1 - terminated) max_a' Q_theta_target(f_phi_target(s'), a')    bellman_target

Each network's gradient is with respect to its own parameters only; the other network and Y are constants. couplings.py
says which network leads, in which order they step, and on which loss; `update` runs one of them.

All functions are pure, for one run; pack.py vectorizes them. B: transitions in a batch, D: features, A: actions.
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
    """Transitions."""

    observation: Tensor  # [B, *observation_shape]
    action: Tensor  # [B] int64
    reward: Tensor  # [B]
    terminated: Tensor  # [B] 1.0 where the episode ended in the task, else 0.0
    next_observation: Tensor  # [B, *observation_shape]


class Players(NamedTuple):
    """Both networks of one run, and everything that their updates change."""

    phi: Tensor  # [parameters] perception
    theta: Tensor  # [parameters] control
    phi_target: Tensor  # [parameters] the target copies
    theta_target: Tensor
    phi_adam: optim.Adam
    theta_adam: optim.Adam
    updates: Tensor  # [] int64, updates so far


class Lane(NamedTuple):
    """The LANE settings of one run (`RunConfig` has their units), each a scalar."""

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
    """One gradient step, as logged: all values are from before the step."""

    loss: Tensor  # []
    grad_norm: Tensor  # [] before clipping
    delta: Tensor  # [B] TD errors


class Rates(NamedTuple):
    """The learning rates of one update, each a scalar."""

    leader: Tensor
    follower: Tensor


class Batches(NamedTuple):
    """The batches of one update: the leader's, and one for each step of the follower."""

    leader: Batch
    followers: Sequence[Batch]


# A coupling: the players after one update, the leader's step, and the follower's first step.
UpdateFn = Callable[[Players, Batches, Rates, Lane, Shape], tuple[Players, StepInfo, StepInfo]]
# (phi, theta, batch, target Y [B], lane, shape) -> the loss [] and its TD errors [B].
Loss = Callable[[Layers, Layers, Batch, Tensor, Lane, Shape], tuple[Tensor, Tensor]]


def new_players(seed: Tensor, shape: Shape) -> Players:
    """The players of a new run with this `seed` ([] int64): initial networks, equal targets, Adam states of zeros."""
    phi = networks.init(seed, noise.Stream.INIT_PHI, shape.phi)
    theta = networks.init(seed, noise.Stream.INIT_THETA, shape.theta)
    return Players(phi, theta, phi, theta, optim.adam_init(phi), optim.adam_init(theta), torch.zeros_like(seed))


def update(
    coupling: UpdateFn, players: Players, batches: Batches, lane: Lane, shape: Shape
) -> tuple[Players, StepInfo, StepInfo]:
    """One update by `coupling`: the players after it, the leader's step, and the follower's first step."""
    rates = learning_rates(players.updates, lane, shape.config)
    players = players._replace(updates=players.updates + 1)
    return coupling(players, batches, rates, lane, shape)


def descend(
    player: str, loss: Loss, players: Players, batch: Batch, lr: Tensor, lane: Lane, shape: Shape
) -> tuple[Players, StepInfo]:
    """One gradient step of one `player`, "phi" or "theta", on its `loss`; the other player does not change."""
    own, adam = getattr(players, player), getattr(players, f"{player}_adam")
    parts = {"phi": networks.layers(players.phi, shape.phi), "theta": networks.layers(players.theta, shape.theta)}
    target = bellman_target(players, batch, lane.gamma, shape)

    def of_own(own_layers: Layers) -> tuple[Tensor, Tensor]:
        both = parts | {player: own_layers}
        return loss(both["phi"], both["theta"], batch, target, lane, shape)

    gradient, (value, delta) = grad_and_value(of_own, has_aux=True)(parts[player])
    gradient = networks.flatten(gradient)
    scale, norm = optim.clip(gradient, lane.max_grad_norm)
    own, adam = optim.adam_step(own, gradient, adam, lr, scale)
    return players._replace(**{player: own, f"{player}_adam": adam}), StepInfo(value, norm, delta)


def descend_together(
    loss: Loss, players: Players, batch: Batch, theta_lr: Tensor, phi_lr: Tensor, lane: Lane, shape: Shape
) -> tuple[Players, StepInfo]:
    """One gradient step of both players on one `loss`; the gradient through both networks is clipped as one vector."""
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
    """A Loss: msbe (eq. 1), plus the penalty on the features if one is set. The loss of a leader that owns phi."""
    delta, z = td_errors(phi, theta, batch, target, shape)
    loss = objectives.msbe(delta)
    if shape.config.leader_penalty != "none":
        loss = loss + lane.leader_penalty_weight * _penalty(shape.config)(z)
    return loss, delta


def follower_loss(
    phi: Layers, theta: Layers, batch: Batch, target: Tensor, lane: Lane, shape: Shape
) -> tuple[Tensor, Tensor]:
    """A Loss: (1 - w) msbe + w f, with w = follower_weight.

    w = 0 is the paper's ablation (eq. 8); w = 1 with f the variance is its follower (eq. 9).
    """
    delta, z = td_errors(phi, theta, batch, target, shape)
    f = registry.function(registry.FOLLOWER_OBJECTIVES[shape.config.follower_objective])
    w = lane.follower_weight
    return (1 - w) * objectives.msbe(delta) + w * f(delta, z), delta


def leading_control_loss(
    phi: Layers, theta: Layers, batch: Batch, target: Tensor, lane: Lane, shape: Shape
) -> tuple[Tensor, Tensor]:
    """A Loss: msbe (eq. 1), plus the penalty P on the features if one is set. The loss of a leading control.

    P has no gradient in theta as long as the features are constant. So P is evaluated where one gradient step of the
    follower, with learning rate 1, moves it, to first order: P - <grad_phi follower's loss, grad_phi P>. The second
    term depends on theta.
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

    penalty_gradient, penalty = grad_and_value(penalised)(phi)
    change = (networks.flatten(grad(followed)(phi)) * networks.flatten(penalty_gradient)).sum()
    return loss + lane.leader_penalty_weight * (penalty - change), delta


def _penalty(config: RunConfig) -> Callable[[Tensor], Tensor]:
    return registry.function(registry.LEADER_PENALTIES[config.leader_penalty])


def td_errors(phi: Layers, theta: Layers, batch: Batch, target: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """The TD errors delta [B] of the online networks, and the features z [B, D]."""
    z = networks.perception(phi, batch.observation, shape.config)
    values = networks.control(theta, z, shape.config, shape.num_actions)
    return objectives.td_error(target, values, batch.action), z


def bellman_target(players: Players, batch: Batch, gamma: Tensor, shape: Shape) -> Tensor:
    """Y [B], from the target copies of both players; with Double Q-learning the online control chooses the action.

    Whose features the online control chooses on is `double_features` (van Hasselt et al. 2016 choose and evaluate with
    whole networks).
    """
    config, theta = shape.config, networks.layers(players.theta_target, shape.theta)
    z = networks.perception(networks.layers(players.phi_target, shape.phi), batch.next_observation, config)
    next_values = networks.control(theta, z, config, shape.num_actions)
    if not config.double:
        return objectives.td_target(batch.reward, batch.terminated, next_values, gamma)
    if config.double_features == "online":
        z = networks.perception(networks.layers(players.phi, shape.phi), batch.next_observation, config)
    chosen_by = networks.control(networks.layers(players.theta, shape.theta), z, config, shape.num_actions)
    return objectives.td_target(batch.reward, batch.terminated, next_values, gamma, chosen_by)


def learning_rates(updates: Tensor, lane: Lane, config: RunConfig) -> Rates:
    """The rates after `updates` updates. A schedule ends after the updates of a run that learns from its first step."""
    rate = registry.function(registry.SCHEDULES[config.schedule].rate)
    progress = (updates / config.num_updates).clamp(0, 1)
    leader = rate(lane.leader_lr, lane.leader_power, lane, updates, progress)
    return Rates(leader, rate(lane.follower_lr, lane.follower_power, lane, updates, progress))


def sync_targets(players: Players, due: Tensor) -> Players:
    """Copy both players to their targets where `due` ([] bool) is true."""
    phi_target = torch.where(due, players.phi, players.phi_target)
    return players._replace(phi_target=phi_target, theta_target=torch.where(due, players.theta, players.theta_target))
