"""Each diagnostic against a computation by brute force, and on networks built to be collapsed, dormant and healthy."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from scorer_core import diagnostics, game, networks, noise, objectives, registry
from scorer_core.config import RunConfig
from scorer_core.diagnostics import PROBED
from scorer_core.game import Batch, Batches, Lane, Players
from scorer_core.learners.dqn import DQN
from scorer_core.memory.ring import Ring

NUM_ENVS, ACTIONS, WIDTH = 3, 2, 6
DRAW = torch.tensor(11)


def learner_of(**settings: Any) -> DQN:
    small: dict[str, Any] = {
        "task": "minatar/breakout", "num_envs": NUM_ENVS, "update_every": NUM_ENVS, "phi_widths": (WIDTH, WIDTH),
        "theta_widths": (8,), "normalise_input": False, "normalise_features": False, "total_steps": 3000,
        "batch_size": 4, "replay_size": 90,
    }  # fmt: skip
    return DQN(networks.shape_of(RunConfig(**small | settings), observation_shape=(4,), num_actions=ACTIONS))


def lane(config: RunConfig) -> Lane:
    return Lane(*(torch.tensor(getattr(config, name)) for name in Lane._fields))


def batch(size: int = 20) -> Batch:
    return Batch(
        observation=noise.normal(DRAW, 0, 0, (size, 4)),
        action=noise.integers(DRAW, 1, 0, (size,), ACTIONS),
        reward=noise.uniform(DRAW, 2, 0, (size,)),
        terminated=(noise.uniform(DRAW, 3, 0, (size,)) < 0.2).float(),
        next_observation=noise.normal(DRAW, 4, 0, (size, 4)),
    )


def probed(players: Players, learner: DQN, on: Batch | None = None) -> dict[str, float]:
    fresh = learner.new_players(torch.tensor(0))
    read, z = diagnostics.probe(players, (fresh.phi, fresh.theta), on or batch(), lane(learner.config), learner)
    srank, effective = diagnostics.ranks(z)
    return {**dict(zip(PROBED, read.tolist(), strict=True)), "srank": float(srank), "effective_rank": float(effective)}


def played(learner: DQN, updates: int = 3) -> Players:
    players = learner.new_players(torch.tensor(0))
    coupling = registry.function(registry.coupling(learner.config.coupling).update)
    batches = Batches(batch(), [batch()] * learner.config.follower_steps)
    for _ in range(updates):
        players, _, _ = game.update(coupling, players, batches, lane(learner.config), learner)
    return players


def by_hand(players: Players, learner: DQN, observation: torch.Tensor) -> tuple[list[np.ndarray], np.ndarray]:
    """Activities of phi's two layers and of theta's hidden one, and the values, in numpy."""
    x, seen = observation.numpy(), []
    shape = learner.shape
    parts = [*networks.layers(players.phi, shape.phi), *networks.layers(players.theta, shape.theta)]
    for weight, bias in parts[:-1]:
        x = np.maximum(x @ weight.numpy() + bias.numpy(), 0)
        seen.append(x)
    weight, bias = parts[-1]
    return seen, x @ weight.numpy() + bias.numpy()


def test_every_reading_is_what_brute_force_gives():
    learner, on = learner_of(), batch()
    players = played(learner)
    fresh, read = learner.new_players(torch.tensor(0)), probed(players, learner)
    hidden, values = by_hand(players, learner, on.observation)
    z = hidden[1]
    at_targets = players._replace(phi=players.targets.phi, theta=players.targets.theta)
    _, targets = by_hand(at_targets, learner, on.next_observation)
    target = on.reward.numpy() + 0.99 * (1 - on.terminated.numpy()) * targets.max(1)
    delta = target - values[np.arange(20), on.action.numpy()]
    activity = [np.abs(layer).mean(0) for layer in hidden]
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in itertools.combinations([row for row in z if row.any()], 2)
    ]
    sigma = np.linalg.svd(z.astype(float), compute_uv=False)
    share = sigma / sigma.sum()
    after = played(learner, 4)
    expected = {
        "probe_msbe": (delta**2).mean(),
        "probe_be_variance": delta.var(),
        "dormant": np.concatenate([unit <= 0.025 * unit.mean() for unit in activity]).mean(),
        "feature_norm": np.linalg.norm(z, axis=1).mean(),
        "feature_cosine": np.mean(cosines),
        "phi_norm": np.linalg.norm(players.phi),
        "theta_norm": np.linalg.norm(players.theta),
        "phi_distance": np.linalg.norm(players.phi - fresh.phi),
        "theta_distance": np.linalg.norm(players.theta - fresh.theta),
        "q_max": values.max(),
        "srank": 1 + np.flatnonzero(np.cumsum(share) >= 0.99)[0],
        "effective_rank": math.exp(-(share[share > 0] * np.log(share[share > 0])).sum()),
    }
    for name, value in expected.items():
        assert read[name] == pytest.approx(value, rel=1e-3, abs=1e-6), name
    moved = [np.linalg.norm(new - old) for new, old in ((after.phi, players.phi), (after.theta, players.theta))]
    assert probed(after, learner)["effective_ratio"] == pytest.approx(moved[0] / moved[1], rel=1e-3)


RADAM = {"optimizer": "radam", "optimizer_epsilon": 1e-2, "leader_lr": 0.1, "follower_lr": 0.1}


@pytest.mark.parametrize(("optimizer", "updates"), [({}, 3), (RADAM, 3), (RADAM, 10)], ids=str)
def test_inverted_the_effective_ratio_is_the_control_s_step_over_the_perception_s(optimizer, updates):
    learner = learner_of(coupling="inverted", schedule="polynomial", decay_rounds=2.0, **optimizer)
    before, after = played(learner, updates), played(learner, updates + 1)
    ratio = np.linalg.norm(after.theta - before.theta) / np.linalg.norm(after.phi - before.phi)
    assert probed(after, learner)["effective_ratio"] == pytest.approx(ratio, rel=1e-3)


def test_the_gradient_cosine_is_that_of_both_objectives_gradients_by_finite_differences():
    learner, on = learner_of(phi_widths=(3,), theta_widths=(), activation="tanh"), batch()
    players = played(learner)
    double = players._replace(phi=players.phi.double(), theta=players.theta.double())
    on = Batch(*(x.double() if x.is_floating_point() else x for x in on))
    target = learner.target(players, batch(), lane(learner.config)).double()
    shape = learner.shape

    def deltas(phi: torch.Tensor) -> torch.Tensor:
        z = torch.tanh(on.observation @ networks.layers(phi, shape.phi)[0][0] + networks.layers(phi, shape.phi)[0][1])
        weight, bias = networks.layers(double.theta, shape.theta)[0]
        return objectives.td_error(target, z @ weight + bias, on.action)

    def slopes(objective) -> np.ndarray:
        steps = 1e-6 * torch.eye(len(double.phi), dtype=torch.float64)
        return np.array([(objective(deltas(double.phi + s)) - objective(deltas(double.phi - s))).item() for s in steps])

    one, other = slopes(objectives.msbe), slopes(objectives.be_variance)
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert probed(players, learner)["gradient_cosine"] == pytest.approx(cosine, rel=1e-3)
    assert probed(players, learner_of(phi_widths=(3,), theta_widths=(), activation="tanh", follower_objective="msbe"))[
        "gradient_cosine"
    ] == pytest.approx(1.0)


def features(learner: DQN, weight: torch.Tensor, bias: torch.Tensor) -> Players:
    """Players whose features are relu(observation @ weight + bias), with one perception layer."""
    players = learner.new_players(torch.tensor(0))
    return players._replace(phi=torch.cat([weight.reshape(-1), bias]))


def test_a_healthy_a_collapsed_and_a_dormant_network_are_told_apart():
    learner = learner_of(phi_widths=(8,), theta_widths=())
    plus_and_minus = torch.cat([torch.eye(4), -torch.eye(4)], 1)
    healthy = probed(features(learner, plus_and_minus, torch.zeros(8)), learner)
    assert healthy["srank"] == 8
    assert 6 < healthy["effective_rank"] <= 8
    assert healthy["dormant"] == 0

    collapsed = probed(features(learner, torch.zeros(4, 8), torch.ones(8)), learner)
    assert collapsed["srank"] == 1
    assert collapsed["effective_rank"] == pytest.approx(1)
    assert collapsed["feature_cosine"] == pytest.approx(1)

    asleep = torch.tensor([0.0, 0, 0, 0, 0, -100, -100, -100])
    dormant = probed(features(learner, plus_and_minus, asleep), learner)
    assert dormant["srank"] == 5
    assert dormant["dormant"] == 3 / 8

    dead = probed(features(learner, plus_and_minus, torch.full((8,), -100.0)), learner)
    assert dead["srank"] == 0
    assert math.isnan(dead["feature_cosine"])


def test_ranks_of_features_that_are_not_finite_are_missing():
    z = torch.stack([torch.eye(3), torch.full((3, 3), float("nan"))])
    srank, effective = diagnostics.ranks(z)
    np.testing.assert_allclose(srank, [3, np.nan])
    np.testing.assert_allclose(effective, [3, np.nan])


@pytest.mark.parametrize("truncates", [False, True])
def test_the_q_bias_is_values_minus_the_returns_that_followed(truncates):
    learner, rows, gamma = learner_of(), 12, 0.99
    size, now = (rows + 1, NUM_ENVS), 40  # the ring has been written over: `now` vector steps, the last 12 still there
    truncated = noise.uniform(DRAW, 5, 0, size) < 0.15
    kept = Ring(
        observation=noise.normal(DRAW, 0, 0, (*size, 4)),
        action=noise.integers(DRAW, 1, 0, size, ACTIONS),
        reward=noise.normal(DRAW, 2, 0, size),
        terminated=noise.uniform(DRAW, 3, 0, size) < 0.1,
        truncated=truncated if truncates else torch.zeros(*size, 0, dtype=torch.bool),
        final_observation=noise.normal(DRAW, 4, 0, (*size, 4)) if truncates else torch.zeros(*size, 0),
    )
    players = played(learner, 30)
    biases = []
    for start in range(now - rows, now - rows + rows // 2):
        for env in range(NUM_ENVS):
            at = start % (rows + 1)
            value = by_hand(players, learner, kept.observation[at, env][None])[1][0, kept.action[at, env]]
            total, weight, step = 0.0, 1.0, start
            while True:
                at = step % (rows + 1)
                total += weight * kept.reward[at, env].item()
                weight *= gamma
                beyond = kept.observation[(step + 1) % (rows + 1), env]
                step += 1
                if kept.terminated[at, env]:
                    weight = 0.0
                    break
                if truncates and kept.truncated[at, env]:
                    beyond = kept.final_observation[at, env]
                    break
                if step == now:
                    break
            if weight:
                total += weight * by_hand(players, learner, beyond[None])[1].max()
            biases.append(value - total)
    read = diagnostics.q_bias(players, kept, torch.tensor(now), lane(learner.config), rows, learner.shape)
    assert read.item() == pytest.approx(np.mean(biases), rel=1e-4)


def test_the_drift_is_how_far_the_players_left_their_targets_where_a_copy_is_due():
    learner = learner_of()
    players = played(learner)
    both = [np.concatenate(pair) for pair in ((players.phi, players.theta), players.targets)]
    far = np.linalg.norm(both[0] - both[1]) / np.linalg.norm(both[1])
    assert diagnostics.drift(players, torch.tensor(True)).tolist() == pytest.approx([far, 1])
    assert diagnostics.drift(players, torch.tensor(False)).tolist() == [0, 0]
    fresh = learner.new_players(torch.tensor(0))
    assert diagnostics.drift(fresh, torch.tensor(True)).tolist() == [0, 0]


def test_short_runs_have_diagnostics_at_fewer_log_points():
    config = learner_of().config
    assert diagnostics.points(config) == 1000 // 400
    assert diagnostics.points(RunConfig(task="gymnax/breakout")) == 100
