"""Diagnostics of ONE run at log points: parameters, action values and features on a fixed probe batch.

The probe batch is drawn once, at the first log point after the first update. A value that is not defined is NaN.
metrics.py has the meaning of each diagnostic.
"""

import functools

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from scorer_core import game, networks, objectives, optim, registry
from scorer_core.config import RunConfig
from scorer_core.game import Batch, Lane, Players
from scorer_core.learners.learner import Learner
from scorer_core.memory.ring import Ring
from scorer_core.networks import Layers, Shape
from scorer_core.verdicts import PROBE as PROBE

HORIZON = 500  # vector steps of a measured return; later rewards have a weight of at most 0.7 % at gamma = 0.99
RETURNS = 128  # transitions whose action values are compared with their returns, in whole vector steps
START_ROWS = 8  # at most so many vector steps
UPDATES_BETWEEN = 400  # at least, between two measurements: one costs a lane as much as 5 to 10 updates
DORMANT = 0.025  # a dormant unit has at most this fraction of its layer's mean activity (Sokar et al. 2023)
SRANK_SHARE = 0.99  # of the sum of singular values (Kumar et al. 2021)

PROBED = (
    "probe_msbe", "probe_be_variance", "dormant", "feature_norm", "feature_cosine", "phi_norm", "theta_norm",
    "phi_distance", "theta_distance", "gradient_cosine", "q_max", "effective_ratio",
)  # fmt: skip


def points(config: RunConfig) -> int:
    """Number of log points with diagnostics: all, or fewer so that UPDATES_BETWEEN updates lie between them."""
    return max(1, min(config.log_points, int(config.num_updates // UPDATES_BETWEEN)))


def probe(
    players: Players, initial: tuple[Tensor, Tensor], batch: Batch, lane: Lane, learner: Learner
) -> tuple[Tensor, Tensor]:
    """The diagnostics PROBED [len(PROBED)] and the features z [B, D] on the probe `batch`.

    `initial` are phi and theta before the first update.
    """
    shape = learner.shape
    phi, theta = networks.layers(players.phi, shape.phi), networks.layers(players.theta, shape.theta)
    target = learner.probe_target(players, batch, lane)
    z, values, hidden = networks.forward_with_activations(phi, theta, batch.observation, shape)
    delta = objectives.td_error(target, values, batch.action)
    by_leader, by_follower = last_updates(players, lane, learner.config)
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
        "gradient_cosine": gradient_cosine(phi, theta, batch, target, lane, learner),
        "q_max": values.max(),
        "effective_ratio": norm(by_follower) / norm(by_leader),
    }
    return torch.stack([measured[name] for name in PROBED]), z


def norm(x: Tensor) -> Tensor:
    """Euclidean norm over the last dimension."""
    return torch.sqrt((x * x).sum(-1))


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of the angle between the vectors x and y."""
    return (x * y).sum() / (norm(x) * norm(y))


def pairwise_cosine(z: Tensor) -> Tensor:
    """Mean cosine over all pairs of different rows of z [B, D] that are not zero; 1 if all have the same direction."""
    length = norm(z)
    count = (length > 0).to(z.dtype).sum()
    together = (z / length.clamp_min(1e-12).unsqueeze(-1)).sum(0)
    return ((together * together).sum() - count) / (count * (count - 1))


def dormant(hidden: list[Tensor]) -> Tensor:
    """Fraction of units in the layers [B, units] whose mean absolute activity is at most DORMANT of their layer's."""
    activity = [layer.abs().mean(0) for layer in hidden]
    is_dormant = torch.cat([unit <= DORMANT * unit.mean() for unit in activity])
    return is_dormant.to(torch.float32).mean()


def gradient_cosine(phi: Layers, theta: Layers, batch: Batch, target: Tensor, lane: Lane, learner: Learner) -> Tensor:
    """Cosine between the gradients of msbe and of the follower's objective with respect to phi.

    1: the follower's step also decreases msbe; 0: it does not change msbe; negative: it increases msbe.
    """

    def msbe(phi: Layers) -> Tensor:
        return objectives.msbe(learner.errors(phi, theta, batch, target).delta)

    def follower(phi: Layers) -> Tensor:
        return game.follower_loss(phi, theta, batch, target, lane, learner)[0]

    return cosine(networks.flatten(grad(msbe)(phi)), networks.flatten(grad(follower)(phi)))


def last_updates(players: Players, lane: Lane, config: RunConfig) -> tuple[Tensor, Tensor]:
    """The leader's and the follower's last step [parameters], from the state of its optimizer."""
    rates = game.learning_rates(players.updates - 1, lane, config)
    states = players.theta_optimizer, players.phi_optimizer
    leader, follower = states if registry.coupling(config.coupling).leader == "theta" else reversed(states)
    last_step = functools.partial(optim.last_step, config.optimizer, epsilon=lane.optimizer_epsilon)
    return last_step(leader, rates.leader), last_step(follower, rates.follower)


def drift(players: Players, due: Tensor) -> Tensor:
    """Relative distance of both players from their targets, and 1; zeros if no copy is `due` ([] bool): [2]."""
    online, target = torch.cat([players.phi, players.theta]), torch.cat(list(players.targets))
    distance = norm(online - target) / norm(target)
    return torch.where(due & (players.updates > 0), torch.stack([distance, torch.ones_like(distance)]), 0.0)


def q_bias(players: Players, ring: Ring, vector_step: Tensor, lane: Lane, rows: int, shape: Shape) -> Tensor:
    """Mean of Q(s, a) minus the discounted return that followed, over the oldest of the last `rows` vector steps.

    The return is the one in the ring, with exploration. It ends with its episode. If the task truncates the episode,
    or after `rows` vector steps, the largest action value replaces the rest.
    """
    num_rows, num_envs = ring.action.shape
    at = (vector_step - rows + torch.arange(rows, device=ring.action.device)) % num_rows
    reward, terminated = ring.reward[at], ring.terminated[at]
    cut = ring.truncated[at] & ~terminated if ring.truncated.numel() else torch.zeros_like(terminated)
    env = torch.arange(num_envs, device=at.device)
    starts = max(1, min(START_ROWS, RETURNS // num_envs, rows // 2))
    biases = []
    for start in range(starts):
        discount = lane.gamma * (~terminated[start:]).to(torch.float32)
        weight = torch.cat([torch.ones_like(discount[:1]), torch.cumprod(discount, 0)])  # per reward, then of the rest
        whole = (cut[start:].cumsum(0) - cut[start:].to(torch.int64)) == 0  # not truncated before this step
        returns = (weight[:-1] * reward[start:] * whole).sum(0)
        last = torch.where(cut[start:].any(0), cut[start:].to(torch.int64).argmax(0), rows - start - 1)
        beyond = ring.observation[(at[-1] + 1) % num_rows]
        if ring.truncated.numel():
            cut_off = cut[start:].any(0).view(-1, *(1,) * (beyond.dim() - 1))
            beyond = torch.where(cut_off, ring.final_observation[at[start + last], env], beyond)
        bootstrap = networks.action_values(players.phi, players.theta, beyond, shape).max(-1).values
        returns = returns + weight[last + 1, env] * bootstrap
        values = networks.action_values(players.phi, players.theta, ring.observation[at[start]], shape)
        biases.append(values.gather(-1, ring.action[at[start]].unsqueeze(-1)).squeeze(-1) - returns)
    return torch.cat(biases).mean()


def ranks(z: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Srank [...] and effective rank [...] of the features z [..., B, D]; NaN if they are not finite.

    srank: the smallest number of singular values with SRANK_SHARE of their sum (Kumar et al. 2021). Effective rank: exp
    of the entropy of the normalized singular values (Roy and Vetterli 2007). In float64, on the CPU.
    """
    doubled = z.to(torch.float64)
    matrices = (doubled.mT @ doubled).cpu().numpy()
    finite = np.asarray(np.isfinite(matrices).all((-2, -1)))
    squares = np.linalg.eigvalsh(np.where(finite[..., None, None], matrices, 0.0))[..., ::-1]
    # Smaller squares are rounding errors of the largest.
    squares = np.where(squares > squares[..., :1] * 1e-13, squares, 0.0)
    sigma = np.sqrt(squares)
    total = sigma.sum(-1, keepdims=True)
    share = np.divide(sigma, total, out=np.zeros_like(sigma), where=total > 0)
    srank = (np.cumsum(share, -1) < SRANK_SHARE).sum(-1) + 1.0
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(-1)
    some = total[..., 0] > 0
    return tuple(np.where(finite, np.where(some, rank, 0.0), np.nan) for rank in (srank, np.exp(entropy)))  # pyright: ignore[reportReturnType]
