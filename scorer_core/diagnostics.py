"""Why a setting works or fails: instruments read off the players and a fixed probe batch of ONE run, at log points.

The probe is drawn once, at the first log point after learning has begun, and kept. What is not defined is NaN.
"""

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from scorer_core import game, networks, objectives, optim, registry
from scorer_core.config import RunConfig
from scorer_core.game import Batch, Lane, Players
from scorer_core.networks import Layers, Shape
from scorer_core.replay import Replay
from scorer_core.verdicts import PROBE as PROBE

HORIZON = 500  # steps that a return is followed for; what lies beyond weighs 0.7 % at gamma = 0.99
RETURNS = 128  # transitions whose values are held against their returns, as far as whole vector steps of at most
START_ROWS = 8
UPDATES_BETWEEN = 400  # rounds that pay for one measurement: it costs a lane 5 to 10 of them, beside 3 % of 400
DORMANT = 0.025  # a unit's share of its layer's mean activity up to which it sleeps (Sokar et al. 2023)
SRANK_SHARE = 0.99  # of the sum of singular values (Kumar et al. 2021)

PROBED = (
    "probe_msbe", "probe_be_variance", "dormant", "feature_norm", "feature_cosine", "phi_norm", "theta_norm",
    "phi_distance", "theta_distance", "gradient_cosine", "q_max", "effective_ratio",
)  # fmt: skip


def points(config: RunConfig) -> int:
    """Log points at which the instruments are read: all, or as many as the rounds between them pay for."""
    return max(1, min(config.log_points, int(config.num_updates // UPDATES_BETWEEN)))


def probe(
    players: Players, initial: tuple[Tensor, Tensor], batch: Batch, lane: Lane, shape: Shape
) -> tuple[Tensor, Tensor]:
    """What PROBED names, in its order, and the features' Gram matrix [D, D] in float64, on the probe `batch`.

    `initial` are phi and theta as they were at first.
    """
    phi, theta = networks.layers(players.phi, shape.phi), networks.layers(players.theta, shape.theta)
    target = game.bellman_target(players, batch, lane.gamma, shape)
    z, values, hidden = networks.forward_with_activations(phi, theta, batch.observation, shape)
    delta = objectives.td_error(target, values, batch.action)
    by_leader, by_follower = last_updates(players, lane, shape.config)
    measured = {
        "probe_msbe": objectives.msbe(delta),
        "probe_be_variance": objectives.be_variance(delta),
        "dormant": dormant(hidden),
        "feature_norm": norm(z).mean(),
        "feature_cosine": pairwise_cosine(z),
        "phi_norm": norm(players.phi),
        "theta_norm": norm(players.theta),
        "phi_distance": norm(players.phi - initial[0]),
        "theta_distance": norm(players.theta - initial[1]),
        "gradient_cosine": gradient_cosine(phi, theta, batch, target, lane, shape),
        "q_max": values.max(),
        "effective_ratio": norm(by_follower) / norm(by_leader),
    }
    doubled = z.to(torch.float64)
    return torch.stack([measured[name] for name in PROBED]), doubled.T @ doubled


def norm(x: Tensor) -> Tensor:
    """Euclidean, of the last dimension."""
    return torch.sqrt((x * x).sum(-1))


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum() / (norm(x) * norm(y))


def pairwise_cosine(z: Tensor) -> Tensor:
    """Mean over all pairs of different rows of z [B, D] that are not zero: 1 where all point one way."""
    length = norm(z)
    there = (length > 0).to(z.dtype)
    count = there.sum()
    together = (z / length.clamp_min(1e-12).unsqueeze(-1)).sum(0)
    return ((together * together).sum() - count) / (count * (count - 1))


def dormant(hidden: list[Tensor]) -> Tensor:
    """Share of units, of all layers [B, units], whose mean absolute activity is at most DORMANT of their layer's."""
    activity = [layer.abs().mean(0) for layer in hidden]
    asleep = torch.cat([unit <= DORMANT * unit.mean() for unit in activity])
    return asleep.to(torch.float32).mean()


def gradient_cosine(phi: Layers, theta: Layers, batch: Batch, target: Tensor, lane: Lane, shape: Shape) -> Tensor:
    """Between the gradients, for the perception, of the leader's msbe and of the follower's objective.

    1: following is going down the leader's objective; 0: it does not matter to the leader; below: it works against it.
    """

    def msbe(phi: Layers) -> Tensor:
        return objectives.msbe(game.td_errors(phi, theta, batch, target, shape)[0])

    def follower(phi: Layers) -> Tensor:
        return game.follower_loss(phi, theta, batch, target, lane, shape)[0]

    return cosine(networks.flatten(grad(msbe)(phi)), networks.flatten(grad(follower)(phi)))


def last_updates(players: Players, lane: Lane, config: RunConfig) -> tuple[Tensor, Tensor]:
    """The leader's and the follower's last step, as vectors; Adam's state and their rates say what it was."""
    rates = game.learning_rates(players.updates - 1, lane, config)
    adams = players.theta_adam, players.phi_adam
    leader, follower = adams if registry.COUPLINGS[config.coupling].leader == "theta" else reversed(adams)
    return optim.last_step(leader, rates.leader), optim.last_step(follower, rates.follower)


def drift(players: Players, due: Tensor) -> Tensor:
    """How far both players are from their targets, of those targets' norm, and 1; zeros where no copy is `due`."""
    online, target = torch.cat([players.phi, players.theta]), torch.cat([players.phi_target, players.theta_target])
    far = norm(online - target) / norm(target)
    return torch.where(due & (players.updates > 0), torch.stack([far, torch.ones_like(far)]), 0.0)


def q_bias(players: Players, kept: Replay, clock: Tensor, lane: Lane, rows: int, shape: Shape) -> Tensor:
    """Mean of Q(s, a) minus the discounted return that followed, over the oldest of the last `rows` vector steps.

    The return is that of the behaviour, exploration included, as it stands in the replay: over an episode's rest or at
    most `rows` steps, and from there, or from where the task cut the episode off, continued by the greedy value.
    """
    num_rows, num_envs = kept.action.shape
    at = (clock - rows + torch.arange(rows, device=kept.action.device)) % num_rows
    reward, terminated = kept.reward[at], kept.terminated[at]
    cut = kept.truncated[at] & ~terminated if kept.truncated.numel() else torch.zeros_like(terminated)
    env = torch.arange(num_envs, device=at.device)
    starts = max(1, min(START_ROWS, RETURNS // num_envs, rows // 2))
    biases = []
    for start in range(starts):
        on = lane.gamma * (~terminated[start:]).to(torch.float32)
        weight = torch.cat([torch.ones_like(on[:1]), torch.cumprod(on, 0)])  # of each reward, and of what comes after
        whole = (cut[start:].cumsum(0) - cut[start:].to(torch.int64)) == 0  # not yet cut off before this step
        returns = (weight[:-1] * reward[start:] * whole).sum(0)
        last = torch.where(cut[start:].any(0), cut[start:].to(torch.int64).argmax(0), rows - start - 1)
        beyond = kept.observation[(at[-1] + 1) % num_rows]
        if kept.truncated.numel():
            cut_off = cut[start:].any(0).view(-1, *(1,) * (beyond.dim() - 1))
            beyond = torch.where(cut_off, kept.final_observation[at[start + last], env], beyond)
        onwards = networks.action_values(players.phi, players.theta, beyond, shape).max(-1).values
        returns = returns + weight[last + 1, env] * onwards
        values = networks.action_values(players.phi, players.theta, kept.observation[at[start]], shape)
        biases.append(values.gather(-1, kept.action[at[start]].unsqueeze(-1)).squeeze(-1) - returns)
    return torch.cat(biases).mean()


def ranks(gram: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Srank and effective rank of features with these Gram matrices [..., D, D], NaN where one is not finite.

    srank: the fewest singular values that hold SRANK_SHARE of their sum (Kumar et al. 2021). Effective rank: exp of
    the entropy of the singular values' shares (Roy and Vetterli 2007). Each matrix alone, in float64, on the CPU.
    """
    matrices = gram.cpu().numpy()
    finite = np.asarray(np.isfinite(matrices).all((-2, -1)))
    squares = np.linalg.eigvalsh(np.where(finite[..., None, None], matrices, 0.0))[..., ::-1]
    # Below this the squares are rounding errors of the largest.
    squares = np.where(squares > squares[..., :1] * 1e-13, squares, 0.0)
    sigma = np.sqrt(squares)
    total = sigma.sum(-1, keepdims=True)
    share = np.divide(sigma, total, out=np.zeros_like(sigma), where=total > 0)
    srank = (np.cumsum(share, -1) < SRANK_SHARE).sum(-1) + 1.0
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(-1)
    some = total[..., 0] > 0
    return tuple(np.where(finite, np.where(some, rank, 0.0), np.nan) for rank in (srank, np.exp(entropy)))  # pyright: ignore[reportReturnType]
