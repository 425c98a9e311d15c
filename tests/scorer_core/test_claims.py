"""The paper's claims that can be checked in seconds, as they come out here; docs/findings.md says where they differ."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.func import grad
from torch.utils._pytree import tree_map

from scorer_core import game, networks, noise, objectives, optim
from scorer_core.config import RunConfig
from scorer_core.game import Batches, Lane
from scorer_core.memory.ring import Ring, sample
from scorer_core.pack import Pack
from scorer_core.tracing import trace

# Baird's counterexample (1995; Sutton and Barto 2018, example 11.1): seven states, all followed by the last, no reward,
# every value representable, and the states updated equally often.
STATES = torch.cat([torch.cat([2 * torch.eye(6), torch.zeros(6, 1), torch.ones(6, 1)], 1), torch.eye(8)[6:7]])
STATES[6, 7] = 2
START = torch.tensor([1.0, 1, 1, 1, 1, 1, 10, 1])
GAMMA = 0.99
ONLY = torch.zeros(7, dtype=torch.int64)  # the one action


def bellman_errors(W: torch.Tensor, theta: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return objectives.td_error(target, (STATES @ W @ theta).unsqueeze(1), ONLY)


def bellman_target(W: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    value = (STATES[6] @ W @ theta).expand(7, 1)
    return objectives.td_target(torch.zeros(7), torch.zeros(7), value, torch.tensor(GAMMA))


def largest_values(step, state: tuple[torch.Tensor, ...], steps: int) -> float:
    """Of a player pair that `step` moves on, state[0] being W and state[1] theta."""
    step = trace(step, state)
    for _ in range(steps):
        state = step(*state)
    return (STATES @ state[0] @ state[1]).abs().max().item()


def descent(follower: Callable[..., torch.Tensor] | None = None, phi_lr: float = 0.005, theta_lr: float = 0.02):
    """One update of plain semi-gradient descent: the follower moves W, if there is one, then the leader moves theta."""

    def lead(W, theta):
        target = bellman_target(W, theta)
        return W, theta - theta_lr * grad(lambda theta: objectives.msbe(bellman_errors(W, theta, target)))(theta)

    if follower is None:
        return lead

    def step(W, theta):
        target = bellman_target(W, theta)
        return lead(W - phi_lr * grad(lambda W: follower(bellman_errors(W, theta, target)))(W), theta)

    return step


def test_on_baird_s_counterexample_linear_td_diverges_and_scorer_converges_to_the_values():
    start = torch.eye(8), START
    assert (STATES @ START).abs().max() == 12
    assert largest_values(descent(), start, 2_000) > 1e6
    assert largest_values(descent(objectives.be_variance), start, 4_000) < 0.5


def test_on_baird_s_counterexample_an_msbe_follower_blows_up_under_plain_descent():
    """The paper has both forms converge; here the second does under Adam alone (below), where linear TD does too."""
    assert not largest_values(descent(objectives.msbe), (torch.eye(8), START), 100) < 1e6


@pytest.mark.parametrize("follower", [objectives.be_variance, objectives.msbe])
def test_on_baird_s_counterexample_both_forms_come_down_under_adam(follower):
    whole, epsilon = torch.tensor(1.0), torch.tensor(1e-8)

    def step(W, theta, *moments):
        of_phi, of_theta = optim.Moments(*moments[:3]), optim.Moments(*moments[3:])
        target = bellman_target(W, theta)
        gradient = grad(lambda W: follower(bellman_errors(W, theta, target)))(W)
        flat, of_phi = optim.step("adam", W.flatten(), gradient.flatten(), of_phi, torch.tensor(5e-3), whole, epsilon)
        W = flat.view(8, 8)
        target = bellman_target(W, theta)
        gradient = grad(lambda theta: objectives.msbe(bellman_errors(W, theta, target)))(theta)
        theta, of_theta = optim.step("adam", theta, gradient, of_theta, torch.tensor(1e-3), whole, epsilon)
        return W, theta, *of_phi, *of_theta

    start = torch.eye(8), START, *optim.init(torch.zeros(64)), *optim.init(torch.zeros(8))
    assert largest_values(step, start, 4_000) < 6.0


def test_be_variance_falls_under_the_variance_objective_on_a_fixed_replay():
    small: dict[str, Any] = {
        "task": "gymnax/breakout", "num_envs": 16, "update_every": 16, "total_steps": 10_000, "replay_size": 2000,
        "learning_starts": 9_000, "phi_widths": (64, 64), "theta_widths": (32,), "schedule": "constant",
    }  # fmt: skip
    pack = Pack([RunConfig(**small)], torch.device("cpu"))
    while pack.vector_step < 125:  # random play fills the replay, and is then over
        pack.step()
    lane = Lane(*(value[0] for value in pack.lane))
    replay = Ring(*(part[0] for part in pack.memory))
    players: game.Players = tree_map(lambda leaf: leaf[0], pack.players)
    vector_step = torch.tensor(pack.vector_step)
    everything = sample(replay, vector_step, torch.arange(2000))

    def be_variance(players: game.Players) -> float:
        layers = networks.layers(players.phi, pack.shape.phi), networks.layers(players.theta, pack.shape.theta)
        target = pack.learner.target(players, everything, lane)
        return objectives.be_variance(pack.learner.errors(*layers, everything, target).delta).item()

    before = be_variance(players)
    for k in range(300):
        drawn = [noise.integers(lane.seed, k, stream, (64,), 2000) for stream in (4, 5)]
        leader, follower = (sample(replay, vector_step, indices) for indices in drawn)
        players, _, _ = game.update(pack.coupling, players, Batches(leader, [follower]), lane, pack.learner)
    assert be_variance(players) < before / 4
