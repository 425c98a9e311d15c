"""The algorithm box: one round of the game between control (theta) and perception (phi), for ONE run.

    paper, Algorithm 1                                  here
    sample B_follower; phi <- phi - a_phi grad Var[d]     follow: descend("phi", ...), theta stands still
    sample B_leader; theta <- theta - a_theta grad E[d^2] lead: descend("theta", ...), meeting the new phi
    copy phi and theta to the targets                     sync_targets

Each player's gradient is with respect to its own parameters alone; the other's, and the target Y, are constants.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value

from scorer_core import networks, noise, objectives, optim
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
    rounds: Tensor


class Lane(NamedTuple):
    """The LANE settings of one run, each a scalar."""

    seed: Tensor
    leader_lr: Tensor
    follower_lr: Tensor
    lr_end: Tensor
    follower_objective: Tensor
    max_grad_norm: Tensor
    gamma: Tensor
    epsilon_start: Tensor
    epsilon_end: Tensor
    epsilon_steps: Tensor
    target_every: Tensor


class Outcome(NamedTuple):
    """What a player met on its batch, before its step: the loss it went down, its gradient's norm, its TD errors."""

    loss: Tensor
    grad_norm: Tensor
    delta: Tensor  # [B]


Objective = Callable[[Tensor], Tensor]

LEADER_AND_FOLLOWER = {"scorer": ("theta", "phi"), "inverted": ("phi", "theta"), "synchronous": ("theta", "phi")}


def new_players(seed: Tensor, shape: Shape) -> Players:
    phi = networks.init(seed, noise.Stream.INIT_PHI, shape.phi, last_gain=math.sqrt(2))
    theta = networks.init(seed, noise.Stream.INIT_THETA, shape.theta, last_gain=0.01)
    return Players(phi, theta, phi, theta, optim.adam_init(phi), optim.adam_init(theta), torch.zeros_like(seed))


def play_round(
    players: Players, leader_batch: Batch, follower_batches: Sequence[Batch], lane: Lane, shape: Shape
) -> tuple[Players, Outcome, Outcome]:
    """One round: the players after it, what the leader met, and what the follower met at its first step."""
    config = shape.config
    leader_lr, follower_lr = learning_rates(players.rounds, lane, config)
    players = players._replace(rounds=players.rounds + 1)
    if config.coupling in ("monolithic", "monolithic_two_rates"):
        players, outcome = descend_together(players, leader_batch, leader_lr, follower_lr, lane, shape)
        return players, outcome, outcome

    leader, follower = LEADER_AND_FOLLOWER[config.coupling]

    def lead(now: Players) -> tuple[Players, Outcome]:
        return descend(leader, objectives.msbe, now, leader_batch, leader_lr, lane, shape)

    def follow(now: Players) -> tuple[Players, Outcome]:
        def objective(delta: Tensor) -> Tensor:
            return objectives.weighted(delta, lane.follower_objective)

        now, outcome = descend(follower, objective, now, follower_batches[0], follower_lr, lane, shape)
        for batch in follower_batches[1:]:
            now, _ = descend(follower, objective, now, batch, follower_lr, lane, shape)
        return now, outcome

    if config.coupling == "synchronous":  # both answer to the other as it was
        led, leader_outcome = lead(players)
        followed, follower_outcome = follow(players)
        players = led._replace(phi=followed.phi, phi_adam=followed.phi_adam)
    elif config.order == "follower_first":
        players, follower_outcome = follow(players)
        players, leader_outcome = lead(players)
    else:
        players, leader_outcome = lead(players)
        players, follower_outcome = follow(players)
    return players, leader_outcome, follower_outcome


def descend(
    player: str, objective: Objective, players: Players, batch: Batch, lr: Tensor, lane: Lane, shape: Shape
) -> tuple[Players, Outcome]:
    """One step of one `player`, "phi" or "theta", down its `objective` of the TD errors; the other stands still."""
    own, adam = getattr(players, player), getattr(players, f"{player}_adam")
    parts = {"phi": networks.layers(players.phi, shape.phi), "theta": networks.layers(players.theta, shape.theta)}
    target = bellman_target(players, batch, lane.gamma, shape)

    def loss(own_layers: Layers) -> tuple[Tensor, Tensor]:
        delta = td_errors(**(parts | {player: own_layers}), batch=batch, target=target, config=shape.config)
        return objective(delta), delta

    gradient, (value, delta) = grad_and_value(loss, has_aux=True)(parts[player])
    gradient, norm = optim.clip(networks.flatten(gradient), lane.max_grad_norm)
    own, adam = optim.adam_step(own, gradient, adam, lr)
    return players._replace(**{player: own, f"{player}_adam": adam}), Outcome(value, norm, delta)


def descend_together(
    players: Players, batch: Batch, theta_lr: Tensor, phi_lr: Tensor, lane: Lane, shape: Shape
) -> tuple[Players, Outcome]:
    """One step of ordinary deep Q-learning: one loss, one gradient through both networks, clipped as one."""
    target = bellman_target(players, batch, lane.gamma, shape)

    def loss(phi: Layers, theta: Layers) -> tuple[Tensor, Tensor]:
        delta = td_errors(phi, theta, batch, target, shape.config)
        return objectives.msbe(delta), delta

    parts = networks.layers(players.phi, shape.phi), networks.layers(players.theta, shape.theta)
    gradients, (value, delta) = grad_and_value(loss, argnums=(0, 1), has_aux=True)(*parts)
    phi_gradient, theta_gradient = map(networks.flatten, gradients)
    both, norm = optim.clip(torch.cat([phi_gradient, theta_gradient]), lane.max_grad_norm)
    phi_gradient, theta_gradient = both.split([phi_gradient.numel(), theta_gradient.numel()])
    phi, phi_adam = optim.adam_step(players.phi, phi_gradient, players.phi_adam, phi_lr)
    theta, theta_adam = optim.adam_step(players.theta, theta_gradient, players.theta_adam, theta_lr)
    players = players._replace(phi=phi, theta=theta, phi_adam=phi_adam, theta_adam=theta_adam)
    return players, Outcome(value, norm, delta)


def td_errors(phi: Layers, theta: Layers, batch: Batch, target: Tensor, config: RunConfig) -> Tensor:
    """The TD errors delta [B] of the online networks."""
    values = networks.control(theta, networks.perception(phi, batch.observation, config), config)
    return objectives.td_error(target, values, batch.action)


def bellman_target(players: Players, batch: Batch, gamma: Tensor, shape: Shape) -> Tensor:
    """Y [B], from the target copies of both players."""
    next_values = networks.action_values(players.phi_target, players.theta_target, batch.next_observation, shape)
    return objectives.td_target(batch.reward, batch.terminated, next_values, gamma)


def learning_rates(rounds: Tensor, lane: Lane, config: RunConfig) -> tuple[Tensor, Tensor]:
    """The leader's and the follower's after `rounds` rounds: linear, ending where a run without a wait would."""
    progress = rounds / (config.vector_steps * config.num_envs / max(config.update_every, config.num_envs))
    leader_lr = optim.linear(lane.leader_lr, lane.lr_end * lane.leader_lr, progress)
    return leader_lr, optim.linear(lane.follower_lr, lane.lr_end * lane.follower_lr, progress)


def sync_targets(players: Players, due: Tensor) -> Players:
    """Hard copies of both players to their targets where `due`."""
    phi_target = torch.where(due, players.phi, players.phi_target)
    return players._replace(phi_target=phi_target, theta_target=torch.where(due, players.theta, players.theta_target))
