"""SCORER, Algorithm 1 of the paper: one update of ONE run, in which control (theta) and perception (phi) learn.

    sample B_follower;  phi   <- phi   - a_follower grad_phi   Var[delta]       descend("phi", follower_loss)
    sample B_leader;    theta <- theta - a_leader   grad_theta E[delta^2]       descend("theta", leading_control_loss)

    delta = Y - Q_theta(f_phi(s), a)                                            learner.errors
    Y: the TD target of the algorithm                                           learner.target

Each network's gradient is with respect to its own parameters only; the other network and Y are constants. couplings.py
says which network leads, in which order they step, and on which loss; `update` runs one of them. Y and delta are the
learner's: learners/ has one algorithm per file (DQN, PQN).

All functions are pure, for one run; pack.py vectorizes them. B: transitions in a batch, D: features, A: actions.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad, grad_and_value

from scorer_core import networks, objectives, optim, registry
from scorer_core.config import RunConfig
from scorer_core.networks import Layers

if TYPE_CHECKING:
    from scorer_core.learners.learner import Learner


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
    phi_optimizer: optim.Moments
    theta_optimizer: optim.Moments
    targets: Any  # a tree of tensors: what a learner's targets need besides, its target networks; () if nothing
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
    decay_updates: Tensor
    follower_weight: Tensor
    leader_penalty_weight: Tensor
    leader_loss_weight: Tensor
    optimizer_epsilon: Tensor
    max_grad_norm: Tensor
    gamma: Tensor
    epsilon_start: Tensor
    epsilon_end: Tensor
    epsilon_steps: Tensor
    target_every: Tensor
    td_lambda: Tensor


class Errors(NamedTuple):
    """The TD errors of a batch."""

    delta: Tensor  # [B]
    z: Tensor  # [B, D] features
    weight: Tensor | None = None  # [B] of each error in a mean; None: all are equal


class StepInfo(NamedTuple):
    """One gradient step, as logged: all values are from before the step."""

    loss: Tensor  # []
    grad_norm: Tensor  # [] before clipping
    delta: Tensor  # [B] TD errors
    weight: Tensor | None = None  # [B] of each error in a mean; None: all are equal


class Rates(NamedTuple):
    """The learning rates of one update, each a scalar."""

    leader: Tensor
    follower: Tensor


class Batches(NamedTuple):
    """The batches of one update: the leader's, and one for each step of the follower."""

    leader: Any  # what the learner's `target` and `errors` take, such as a Batch
    followers: Sequence[Any]


# A coupling: the players after one update, the leader's step, and the follower's first step.
UpdateFn = Callable[[Players, Batches, Rates, Lane, "Learner"], tuple[Players, StepInfo, StepInfo]]
# (phi, theta, batch, target Y [B], lane, learner) -> the loss [] and its TD errors.
Loss = Callable[[Layers, Layers, Any, Tensor, Lane, "Learner"], tuple[Tensor, Errors]]


def update(
    coupling: UpdateFn, players: Players, batches: Batches, lane: Lane, learner: "Learner"
) -> tuple[Players, StepInfo, StepInfo]:
    """One update by `coupling`: the players after it, the leader's step, and the follower's first step."""
    rates = learning_rates(players.updates, lane, learner.config)
    players = players._replace(updates=players.updates + 1)
    return coupling(players, batches, rates, lane, learner)


def descend(
    player: str, loss: Loss, players: Players, batch: Any, lr: Tensor, lane: Lane, learner: "Learner"
) -> tuple[Players, StepInfo]:
    """One gradient step of one `player`, "phi" or "theta", on its `loss`; the other player does not change."""
    own, optimizer = getattr(players, player), getattr(players, f"{player}_optimizer")
    parts, target = _layers(players, learner), learner.target(players, batch, lane)

    def of_own(own_layers: Layers) -> tuple[Tensor, tuple[Tensor, ...]]:
        both = parts | {player: own_layers}
        return _for_gradient(loss(both["phi"], both["theta"], batch, target, lane, learner))

    gradient, (value, logged) = grad_and_value(of_own, has_aux=True)(parts[player])
    gradient = networks.flatten(gradient)
    scale, norm = optim.clip(gradient, lane.max_grad_norm)
    own, optimizer = optim.step(learner.config.optimizer, own, gradient, optimizer, lr, scale, lane.optimizer_epsilon)
    return players._replace(**{player: own, f"{player}_optimizer": optimizer}), StepInfo(value, norm, *logged)


def descend_together(
    loss: Loss, players: Players, batch: Any, theta_lr: Tensor, phi_lr: Tensor, lane: Lane, learner: "Learner"
) -> tuple[Players, StepInfo]:
    """One gradient step of both players on one `loss`; the gradient through both networks is clipped as one vector."""
    parts, target = _layers(players, learner), learner.target(players, batch, lane)

    def of_both(phi: Layers, theta: Layers) -> tuple[Tensor, tuple[Tensor, ...]]:
        return _for_gradient(loss(phi, theta, batch, target, lane, learner))

    gradients, (value, logged) = grad_and_value(of_both, argnums=(0, 1), has_aux=True)(parts["phi"], parts["theta"])
    phi_gradient, theta_gradient = map(networks.flatten, gradients)
    scale, norm = optim.clip(torch.cat([phi_gradient, theta_gradient]), lane.max_grad_norm)
    name, epsilon = learner.config.optimizer, lane.optimizer_epsilon
    phi, phi_optimizer = optim.step(name, players.phi, phi_gradient, players.phi_optimizer, phi_lr, scale, epsilon)
    theta, theta_optimizer = optim.step(
        name, players.theta, theta_gradient, players.theta_optimizer, theta_lr, scale, epsilon
    )
    players = players._replace(phi=phi, theta=theta, phi_optimizer=phi_optimizer, theta_optimizer=theta_optimizer)
    return players, StepInfo(value, norm, *logged)


def _layers(players: Players, learner: "Learner") -> dict[str, Layers]:
    shape = learner.shape
    return {"phi": networks.layers(players.phi, shape.phi), "theta": networks.layers(players.theta, shape.theta)}


def _for_gradient(found: tuple[Tensor, Errors]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss, and what is logged of the errors: grad_and_value takes only tensors."""
    loss, errors = found
    return loss, (errors.delta,) if errors.weight is None else (errors.delta, errors.weight)


def msbe_loss(
    phi: Layers, theta: Layers, batch: Any, target: Tensor, lane: Lane, learner: "Learner"
) -> tuple[Tensor, Errors]:
    """A Loss: msbe (eq. 1), plus the penalty on the features if one is set. The loss of a leader that owns phi."""
    errors = learner.errors(phi, theta, batch, target)
    loss = _leader_msbe(errors, lane)
    if learner.config.leader_penalty != "none":
        loss = loss + lane.leader_penalty_weight * _penalty(learner.config)(errors.z)
    return loss, errors


def follower_loss(
    phi: Layers, theta: Layers, batch: Any, target: Tensor, lane: Lane, learner: "Learner"
) -> tuple[Tensor, Errors]:
    """A Loss: (1 - w) msbe + w f, with w = follower_weight.

    w = 0 is the paper's ablation (eq. 8); w = 1 with f the variance is its follower (eq. 9).
    """
    errors = learner.errors(phi, theta, batch, target)
    f = registry.part(registry.FOLLOWER_OBJECTIVES, learner.config.follower_objective)
    w = lane.follower_weight
    return (1 - w) * objectives.msbe(errors.delta, errors.weight) + w * f(*errors), errors


def leading_control_loss(
    phi: Layers, theta: Layers, batch: Any, target: Tensor, lane: Lane, learner: "Learner"
) -> tuple[Tensor, Errors]:
    """A Loss: msbe (eq. 1), plus the penalty P on the features if one is set. The loss of a leading control.

    P has no gradient in theta as long as the features are constant. So P is evaluated where one gradient step of the
    follower, with learning rate 1, moves it, to first order: P - <grad_phi follower's loss, grad_phi P>. The second
    term depends on theta.
    """
    errors = learner.errors(phi, theta, batch, target)
    loss = _leader_msbe(errors, lane)
    if learner.config.leader_penalty == "none":
        return loss, errors

    def penalised(phi: Layers) -> Tensor:
        return _penalty(learner.config)(learner.errors(phi, theta, batch, target).z)

    def followed(phi: Layers) -> Tensor:
        return follower_loss(phi, theta, batch, target, lane, learner)[0]

    penalty_gradient, penalty = grad_and_value(penalised)(phi)
    change = (networks.flatten(grad(followed)(phi)) * networks.flatten(penalty_gradient)).sum()
    return loss + lane.leader_penalty_weight * (penalty - change), errors


def _leader_msbe(errors: Errors, lane: Lane) -> Tensor:
    return lane.leader_loss_weight * objectives.msbe(errors.delta, errors.weight)


def _penalty(config: RunConfig) -> Callable[[Tensor], Tensor]:
    return registry.part(registry.LEADER_PENALTIES, config.leader_penalty)


def learning_rates(updates: Tensor, lane: Lane, config: RunConfig) -> Rates:
    """The rates after `updates` updates."""
    rate = registry.function(registry.schedule(config.schedule).rate)
    progress = (updates / lane.decay_updates).clamp(0, 1)
    leader = rate(lane.leader_lr, lane.leader_power, lane, updates, progress)
    return Rates(leader, rate(lane.follower_lr, lane.follower_power, lane, updates, progress))


def epsilon(lane: Lane, env_step: Tensor) -> Tensor:
    """Exploration rate [] after `env_step` ([] int64) environment steps: linear, then constant."""
    return lane.epsilon_start + (lane.epsilon_end - lane.epsilon_start) * (env_step / lane.epsilon_steps).clamp(0, 1)
