"""One update of the game, by hand, on a task of two states and two actions.

phi: z = relu(one_hot(s) @ [1, 2]) so z(s0) = 1, z(s1) = 2; theta: Q = z [0.5, -0.5]; gamma = 0.9; the batch is
(s0, a0, r 1, -> s1) and (s1, a1, r 0, terminal), so Y = (1 + 0.9 * 1, 0) and delta = (1.4, 1.0).
"""

import math
from typing import Any

import pytest
import torch

from scorer_core import game, networks, objectives, optim, registry
from scorer_core.config import RunConfig
from scorer_core.game import Batch, Batches, Lane, Players
from scorer_core.learners.dqn import DQN, Targets
from scorer_core.learners.learner import Learner
from scorer_core.tracing import trace

EYE = torch.eye(2)
BATCH = Batch(
    observation=EYE, action=torch.tensor([0, 1]), reward=torch.tensor([1.0, 0.0]),
    terminated=torch.tensor([0.0, 1.0]), next_observation=EYE.flip(0),
)  # fmt: skip
FOLLOWER_LR, LEADER_LR = 0.1, 0.01
PAID = {"leader_penalty_weight": 2.0}
PENALTY: dict[str, Any] = {"leader_penalty": "feature_norm", **PAID}


def learner_of(**settings: Any) -> DQN:
    config = RunConfig(
        task="minatar/breakout", phi_widths=(1,), theta_widths=(), normalise_input=False, normalise_features=False,
        num_envs=1, update_every=1, total_steps=1000, **settings,
    )  # fmt: skip
    return DQN(networks.shape_of(config, observation_shape=(2,), num_actions=2))


def new_players() -> Players:
    phi, theta = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([0.5, -0.5, 0.0, 0.0])
    return Players(phi, theta, optim.init(phi), optim.init(theta), Targets(phi, theta), torch.tensor(0))


def lane(**settings: Any) -> Lane:
    values = {
        "seed": 0, "leader_lr": LEADER_LR, "follower_lr": FOLLOWER_LR, "lr_end": 0.0, "leader_power": 0.9,
        "follower_power": 0.6, "decay_rounds": 10.0, "decay_updates": 1000.0, "follower_weight": 1.0,
        "leader_penalty_weight": 0.0, "leader_loss_weight": 1.0, "optimizer_epsilon": 1e-8, "max_grad_norm": 100.0,
        "gamma": 0.9, "epsilon_start": 0.0, "epsilon_end": 0.0, "epsilon_steps": 1, "target_every": 1,
        "td_lambda": 0.65,
    } | settings  # fmt: skip
    return Lane(**{name: torch.tensor(value) for name, value in values.items()})


def update(players: Players, followers: list[Batch], settings: Lane, learner: Learner):
    """One update; the leader's batch is the first of the follower's."""
    coupling = registry.function(registry.coupling(learner.config.coupling).update)
    return game.update(coupling, players, Batches(followers[0], followers), settings, learner)


def layers_of(players: Players, learner: Learner) -> tuple[networks.Layers, networks.Layers]:
    shape = learner.shape
    return networks.layers(players.phi, shape.phi), networks.layers(players.theta, shape.theta)


def play(lane_settings=None, **settings):
    return update(new_players(), [BATCH], lane(**lane_settings or {}), learner_of(**settings))


@pytest.mark.parametrize("algorithm", ["dqn", "ddqn", "dueling_dqn", "dueling_ddqn"])
@pytest.mark.parametrize("coupling", ["scorer", "synchronous", "monolithic", "monolithic_two_rates"])
def test_every_algorithm_finds_values_that_are_known_under_every_coupling_but_the_inverted(coupling, algorithm):
    """s0 leads to s1, which ends with reward 1: Q(s0, a0) is gamma, Q(s1, a1) is 1, and the other actions give nothing.

    Inverted, nobody is in a hurry about the mean of the errors: at the end Q(s0, a0) was 0.5 to 0.6 off.
    """
    config = RunConfig(
        task="minatar/breakout", phi_widths=(32,), theta_widths=(32,), num_envs=1, update_every=1, total_steps=10_000,
        normalise_input=False, normalise_features=False, coupling=coupling, algorithm=algorithm,
    )  # fmt: skip
    learner = DQN(networks.shape_of(config, observation_shape=(2,), num_actions=2))
    batch = Batch(
        observation=EYE[[0, 0, 1, 1]], action=torch.tensor([0, 1, 0, 1]), reward=torch.tensor([0.0, 0, 0, 1]),
        terminated=torch.tensor([0.0, 1, 1, 1]), next_observation=EYE[[1, 1, 0, 0]],
    )  # fmt: skip
    players = learner.new_players(torch.tensor(3))
    settings = lane(leader_lr=1e-2, follower_lr=2e-2, decay_updates=10_000.0)

    def play_and_sync(players: Players) -> Players:
        players, _, _ = update(players, [batch], settings, learner)
        return learner.sync_targets(players, players.updates % 10 == 0)

    play_and_sync = trace(play_and_sync, (players,))
    for _ in range(300):
        players = play_and_sync(players)
    values = networks.action_values(players.phi, players.theta, EYE, learner.shape)
    torch.testing.assert_close(values, torch.tensor([[0.9, 0.0], [0.0, 1.0]]), atol=0.1, rtol=0)


def test_target_and_errors_by_hand():
    learner, players = learner_of(), new_players()
    target = learner.target(players, BATCH, lane())
    torch.testing.assert_close(target, torch.tensor([1.9, 0.0]))
    errors = learner.errors(*layers_of(players, learner), BATCH, target)
    torch.testing.assert_close(errors.delta, torch.tensor([1.4, 1.0]))
    torch.testing.assert_close(errors.z, torch.tensor([[1.0], [2.0]]))
    assert errors.weight is None


def test_an_update_of_scorer_by_hand():
    after, led, followed = play()
    # The follower: dVar/dQ = (-0.2, 0.2), through theta = (0.5, -0.5) to dz = (-0.1, -0.1), so the gradient is
    # (-0.1, -0.1) for the weights and -0.2 for the bias. Adam's first step is the learning rate against its sign.
    torch.testing.assert_close(followed.loss, torch.tensor(0.04))
    torch.testing.assert_close(followed.grad_norm, torch.tensor(math.sqrt(0.01 + 0.01 + 0.04)))
    torch.testing.assert_close(after.phi, torch.tensor([1.1, 2.1, 0.1]))
    # The leader meets the new phi: z = (1.2, 2.2), delta = (1.3, 1.1), dMSBE/dQ = -delta.
    torch.testing.assert_close(led.delta, torch.tensor([1.3, 1.1]))
    torch.testing.assert_close(led.loss, torch.tensor((1.69 + 1.21) / 2))
    gradient = [1.3 * 1.2, 1.1 * 2.2, 1.3, 1.1]
    torch.testing.assert_close(led.grad_norm, torch.tensor(math.hypot(*gradient)))
    torch.testing.assert_close(after.theta, torch.tensor([0.51, -0.49, 0.01, 0.01]))
    assert after.updates == 1
    torch.testing.assert_close(after.targets.phi, new_players().phi)


def test_leader_first_the_leader_meets_the_old_phi_and_the_follower_the_new_theta():
    _, led, followed = play(order="leader_first")
    torch.testing.assert_close(led.delta, torch.tensor([1.4, 1.0]))
    # theta is (0.51, -0.49), bias 0.01: Q(s0, a0) = 0.52, Q(s1, a1) = -0.97.
    torch.testing.assert_close(followed.delta, torch.tensor([1.38, 0.97]))


def test_inverted_the_perception_leads_slowly_on_msbe_and_the_control_follows_fast_on_variance():
    after, led, followed = play(coupling="inverted")
    # The follower, theta: dVar/dQ = (-0.2, 0.2), so the gradient is (-0.2 * 1, 0.2 * 2) and (-0.2, 0.2).
    torch.testing.assert_close(followed.grad_norm, torch.tensor(math.hypot(0.2, 0.4, 0.2, 0.2)))
    torch.testing.assert_close(after.theta, torch.tensor([0.6, -0.6, 0.1, -0.1]))
    assert led.loss == objectives.msbe(led.delta)
    torch.testing.assert_close((after.phi - new_players().phi).abs(), torch.full((3,), LEADER_LR))


def test_synchronous_both_go_down_msbe_against_the_other_as_it_was():
    after, led, followed = play({"follower_weight": 0.0}, coupling="synchronous")
    torch.testing.assert_close(led.delta, torch.tensor([1.4, 1.0]))
    torch.testing.assert_close(followed.delta, torch.tensor([1.4, 1.0]))
    torch.testing.assert_close(followed.loss, torch.tensor(1.48))
    torch.testing.assert_close((after.phi - new_players().phi).abs(), torch.full((3,), FOLLOWER_LR))
    torch.testing.assert_close((after.theta - new_players().theta).abs(), torch.full((4,), LEADER_LR))


def test_monolithic_is_one_gradient_clipped_as_one_at_one_rate():
    after, led, followed = play({"follower_lr": LEADER_LR}, coupling="monolithic")
    # dMSBE/dQ = (-1.4, -1.0): theta (-1.4 * 1, -1.0 * 2, -1.4, -1.0); phi (-1.4 * 0.5, -1.0 * -0.5, sum of both).
    together = math.hypot(1.4, 2.0, 1.4, 1.0, 0.7, 0.5, 0.2)
    torch.testing.assert_close(led.grad_norm, torch.tensor(together))
    assert led is followed
    torch.testing.assert_close(after.phi, torch.tensor([1.01, 1.99, 0.01]))
    torch.testing.assert_close(after.theta, torch.tensor([0.51, -0.49, 0.01, 0.01]))


def test_monolithic_two_rates_moves_each_part_at_its_own():
    after, _, _ = play(coupling="monolithic_two_rates")
    torch.testing.assert_close(after.phi, torch.tensor([1.1, 1.9, 0.1]))
    torch.testing.assert_close(after.theta, torch.tensor([0.51, -0.49, 0.01, 0.01]))


@pytest.mark.parametrize("player", ["phi", "theta"])
def test_no_gradient_reaches_the_other_player(player):
    players = new_players()
    after, _ = game.descend(player, game.msbe_loss, players, BATCH, torch.tensor(0.1), lane(), learner_of())
    other = {"phi": "theta", "theta": "phi"}[player]
    assert not torch.equal(getattr(after, player), getattr(players, player))
    for part in (other, f"{other}_optimizer", "targets"):
        assert getattr(after, part) is getattr(players, part)


def test_every_follower_step_has_its_batch_and_the_leader_moves_once():
    other = BATCH._replace(reward=torch.tensor([0.0, 5.0]))
    after, _, first = update(new_players(), [BATCH, other, other], lane(), learner_of(follower_steps=3))
    assert after.phi_optimizer.steps == 3
    assert after.theta_optimizer.steps == 1
    torch.testing.assert_close(first.loss, torch.tensor(0.04))


def test_learning_rates_fall_linearly_to_their_end_with_a_constant_ratio():
    config = learner_of().config
    rates = [game.learning_rates(torch.tensor(r), lane(lr_end=0.2), config) for r in (0, 500, 1000)]
    assert [leader.item() for leader, _ in rates] == pytest.approx([0.01, 0.006, 0.002])
    assert [(follower / leader).item() for leader, follower in rates] == pytest.approx([10, 10, 10])


def test_polynomial_rates_fall_by_their_own_powers_so_that_the_leader_s_vanishes_beside_the_follower_s():
    config = learner_of(schedule="polynomial").config
    rates = [game.learning_rates(torch.tensor(r), lane(), config) for r in (0, 10, 30)]
    assert [leader.item() for leader, _ in rates] == pytest.approx([0.01, 0.01 / 2**0.9, 0.01 / 4**0.9])
    assert [(leader / follower).item() for leader, follower in rates] == pytest.approx(
        [0.1, 0.1 / 2**0.3, 0.1 / 4**0.3]
    )


def test_constant_rates_are_constant():
    rates = game.learning_rates(torch.tensor(777), lane(), learner_of(schedule="constant").config)
    assert [rate.item() for rate in rates] == pytest.approx([LEADER_LR, FOLLOWER_LR])


@pytest.mark.parametrize(("features", "chosen"), [("target", -1.0), ("online", 2.0)])
def test_double_the_online_control_chooses_on_the_features_it_is_set_to(features, chosen):
    learner, start = learner_of(algorithm="ddqn", double_features=features), new_players()
    players = start._replace(
        phi=torch.zeros(3),
        theta=torch.tensor([-1.0, 1.0, 0.5, 0.0]),
        targets=Targets(start.phi, torch.tensor([1.0, -0.5, 0.0, 0.0])),
    )
    target = learner.target(players, BATCH, lane(gamma=1.0))
    # On the targets' z = 2 the online control values (-1.5, 2) and takes a1, worth -1; on its own z = 0 it takes a0.
    torch.testing.assert_close(target, torch.tensor([1.0 + chosen, 0.0]))


def test_the_follower_s_weight_goes_from_msbe_at_0_to_its_objective_at_1():
    losses = [play({"follower_weight": w})[2].loss.item() for w in (0.0, 0.5, 1.0)]
    assert losses == pytest.approx([1.48, (1.48 + 0.04) / 2, 0.04])
    norm = play(follower_objective="norm")[2].loss.item()
    assert norm == pytest.approx(0.1 * (1 - (1 + 4) / 2) ** 2)


def test_a_penalty_on_its_features_is_paid_by_a_leading_perception():
    _, led, _ = play(
        {"leader_penalty_weight": 2.0},
        coupling="inverted",
        order="leader_first",
        leader_penalty="feature_norm",
        leader_penalty_weight=2,
    )
    assert led.loss.item() == pytest.approx(1.48 + 2 * 2.5)


def test_a_leading_control_feels_the_penalty_through_the_follower_s_next_step():
    learner, players, paid = learner_of(**PENALTY), new_players(), lane(**PAID)
    layers, target = layers_of(players, learner), learner.target(players, BATCH, paid)

    def followed(phi):
        return game.follower_loss(phi, layers[1], BATCH, target, paid, learner)[0]

    def penalty_after_following(step: float) -> float:
        gradient = torch.func.grad(followed)(layers[0])
        phi = networks.layers(players.phi - step * networks.flatten(gradient), learner.shape.phi)
        return objectives.feature_norm(networks.perception(phi, BATCH.observation, learner.shape)).item()

    slope = (penalty_after_following(1e-2) - penalty_after_following(-1e-2)) / 2e-2
    loss, _ = game.leading_control_loss(*layers, BATCH, target, paid, learner)
    assert loss.item() == pytest.approx(1.48 + 2 * (2.5 + slope), rel=1e-4)
    _, led, _ = play(PAID, order="leader_first", **PENALTY)
    _, free, _ = play(order="leader_first")
    assert led.grad_norm != free.grad_norm


def test_targets_are_copied_only_where_due():
    learner, moved = learner_of(), new_players()._replace(phi=torch.ones(3), theta=torch.ones(4))
    kept = learner.sync_targets(moved, torch.tensor(False))
    assert torch.equal(kept.targets.phi, moved.targets.phi)
    assert torch.equal(kept.targets.theta, moved.targets.theta)
    synced = learner.sync_targets(moved, torch.tensor(True))
    assert torch.equal(synced.targets.phi, moved.phi)
    assert torch.equal(synced.targets.theta, moved.theta)
