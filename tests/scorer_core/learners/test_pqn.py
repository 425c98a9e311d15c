"""PQN: its updates by hand, its minibatches, the values that it learns, and what a pack promises for it."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from scorer_core import game, networks, optim, registry
from scorer_core.config import RunConfig
from scorer_core.game import Batches, Lane, Players
from scorer_core.learners.pqn import PQN, RolloutBatch
from scorer_core.metrics import METRICS
from scorer_core.pack import Pack
from scorer_core.settings import resolve
from tests.scorer_core import probes
from tests.scorer_core.test_pack import bits, rows_of, same, train

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "task": "minatar/breakout", "algorithm": "pqn", "num_envs": 6, "rollout_steps": 5, "minibatches": 3, "epochs": 2,
    "total_steps": 600, "log_points": 5, "phi_widths": (20, 12), "theta_widths": (8,), "optimizer": "radam",
    "layer_norm": "hidden_and_features", "initial_weights": "lecun", "normalise_input": False,
    "normalise_features": False, "leader_loss_weight": 0.5,
}  # fmt: skip
LANES: list[dict[str, Any]] = [
    {"seed": 0},
    {"seed": 1, "leader_lr": 1e-3, "gamma": 0.9, "td_lambda": 0.3},
    {"seed": 2, "follower_weight": 0.3, "max_grad_norm": 0.01, "epsilon_end": 0.5, "epsilon_steps": 50},
    {"seed": 1, "decay_steps": 300, "optimizer_epsilon": 1e-3},
]


def config(**settings: Any) -> RunConfig:
    return RunConfig(**SMALL | settings)


# --- one update ---


def test_a_leader_step_and_a_follower_step_by_hand():
    """z = relu(one_hot(s) @ [1, 2]), Q = z [0.5, -0.5]; RAdam's first step is the learning rate times the gradient.

    The batch is (s0, a0, G 1.9) and (s1, a1, G 0), so delta = (1.4, 1.0) before the leader's step.
    """
    settings = config(
        phi_widths=(1,), theta_widths=(), layer_norm="none", order="leader_first", batches="shared", coupling="scorer"
    )
    learner = PQN(networks.shape_of(settings, observation_shape=(2,), num_actions=2))
    phi, theta = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([0.5, -0.5, 0.0, 0.0])
    players = Players(phi, theta, optim.init(phi), optim.init(theta), (), torch.tensor(0))
    batch = RolloutBatch(torch.eye(2), torch.tensor([0, 1]), torch.tensor([1.9, 0.0]))
    lane = Lane(*(torch.tensor(getattr(settings, name)) for name in Lane._fields))._replace(
        leader_lr=torch.tensor(0.01), follower_lr=torch.tensor(0.1), max_grad_norm=torch.tensor(100.0)
    )
    after, led, followed = game.update(
        registry.function(registry.coupling("scorer").update), players, Batches(batch, [batch]), lane, learner
    )
    # The leader: half of MSBE, so dL/dQ = -delta / 2 = (-0.7, -0.5), with z = (1, 2).
    assert led.loss.item() == pytest.approx((1.96 + 1.0) / 2 / 2)
    assert led.grad_norm.item() == pytest.approx(math.hypot(0.7, 1.0, 0.7, 0.5))
    assert after.theta.tolist() == pytest.approx([0.507, -0.49, 0.007, 0.005])
    # The follower, against the new control: delta = (1.9 - 0.514, 0.975), and dVar/dQ = (-0.2055, 0.2055).
    assert followed.delta.tolist() == pytest.approx([1.386, 0.975])
    assert followed.loss.item() == pytest.approx(0.2055**2)
    dz = -0.2055 * 0.507, 0.2055 * -0.49
    assert after.phi.tolist() == pytest.approx([1 - 0.1 * dz[0], 2 - 0.1 * dz[1], -0.1 * (dz[0] + dz[1])], rel=1e-5)
    assert after.updates == 1


@pytest.mark.parametrize("coupling", ["monolithic", "monolithic_two_rates", "synchronous", "scorer"])
def test_action_values_reach_q_star_of_a_chain_under_every_coupling_but_the_inverted(coupling):
    """On random actions, the lambda-returns of lambda 0 have Q* as their fixed point.

    Inverted, the control minimizes the variance only, so nobody corrects the mean soon: see the assertion below.
    """
    error = largest_error(coupling)
    assert error < 0.06, error  # of values between 0.2 and 1; targets of one rollout have a noise of about 0.03


def test_inverted_the_action_values_stay_further_from_q_star_than_under_every_other_coupling():
    error = largest_error("inverted")
    assert error > 0.06, error


def largest_error(coupling: str) -> float:
    """The largest error of the learned action values of a chain, whose Q* is known."""
    probes.register()
    gamma = 0.9
    settings: dict[str, Any] = {
        "task": "Probe/Chain-v0", "coupling": coupling, "num_envs": 32, "rollout_steps": 8, "minibatches": 2,
        "epochs": 2, "total_steps": 60_000, "phi_widths": (16,), "theta_widths": (16,), "layer_norm": "none",
        "initial_weights": "orthogonal", "leader_lr": 2e-3, "follower_lr": 4e-3, "gamma": gamma, "td_lambda": 0.0,
        "epsilon_start": 1.0, "epsilon_end": 1.0, "max_grad_norm": 10.0, "log_points": 1,
    }  # fmt: skip
    pack = Pack([config(**settings, seed=seed) for seed in range(2)], CPU)
    while not pack.finished:
        pack.step()
    values = torch.vmap(lambda phi, theta: networks.action_values(phi, theta, torch.eye(probes.STATES), pack.shape))
    learned = values(pack.players.phi, pack.players.theta).detach().numpy()
    return float(np.abs(learned - probes.optimal_values(gamma)).max())


# --- rollouts and minibatches ---


class Watched(Pack):
    """A pack that keeps the arguments of every update."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.updates: list[tuple[int, Any]] = []

    def _vectorised(self, name, one_run, *arguments, **options):
        if name == "learn":
            self.updates.append((self.part, arguments[3]))
        return super()._vectorised(name, one_run, *arguments, **options)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("batches", ["shared", "separate"])
def test_each_epoch_uses_each_transition_once_for_each_player_in_a_new_order(batches):
    pack = Watched([config(batches=batches, follower_steps=2, seed=seed) for seed in (0, 1)], CPU)
    while len(pack.updates) < 12:
        pack.step()
    orders = []
    for rollout in range(2):
        for epoch in range(2):
            of_epoch = [draws for part, draws in pack.updates[6 * rollout : 6 * rollout + 6] if part == epoch]
            assert len(of_epoch) == 3
            players = [torch.cat([draws.leader for draws in of_epoch], -1)]
            players += [torch.cat(steps, -1) for steps in zip(*(draws.followers for draws in of_epoch), strict=True)]
            assert len(players) == (1 if batches == "shared" else 3)
            for order in players:
                assert order.sort(-1).values.tolist() == [list(range(30))] * 2
                orders += order.tolist()
    assert len({tuple(order) for order in orders}) == len(orders)


@pytest.mark.usefixtures("untraced")
def test_a_rollout_is_learned_from_when_it_is_complete_one_epoch_per_step_and_then_the_next_begins():
    pack = Pack([config()], CPU)
    seen = []
    for _ in range(13):
        pack.step()
        seen.append((pack.vector_step, pack.part, int(pack.players.updates)))
    first = [(step, 0, 0) for step in range(1, 5)] + [(5, 1, 3), (5, 0, 6)]
    second = [(step, 0, 6) for step in range(6, 10)] + [(10, 1, 9), (10, 0, 12)]
    assert seen == [*first, *second, (11, 0, 12)]
    assert pack.config.num_updates == 600 / 30 * 6


@pytest.mark.parametrize("task", ["gymnax/breakout", "Probe/Short-v0"])
def test_the_targets_of_a_pack_are_the_lambda_returns_of_what_it_saw(task):
    """By a slow loop over the recorded steps, with action values of the networks before the rollout's updates."""
    probes.register()
    pack = Pack([config(task=task, gamma=0.9, td_lambda=0.5, num_envs=8, rollout_steps=12, minibatches=4)], CPU)
    while (pack.vector_step, pack.part) != (23, 0):
        pack.step()
    phi, theta = pack.players.phi[0].clone(), pack.players.theta[0].clone()

    def value(observation: torch.Tensor) -> torch.Tensor:
        return networks.action_values(phi, theta, observation, pack.shape).max(-1).values

    pack.step()
    assert (pack.vector_step, pack.part) == (24, 1)
    ring, at = pack.memory.ring, torch.arange(24 - 12, 24) % 13
    reward, terminated = ring.reward[0, at], ring.terminated[0, at].float()
    truncated = ring.truncated[0, at] if ring.truncated.numel() else torch.zeros(12, 8, dtype=torch.bool)
    values = [value(ring.observation[0, row]) for row in at] + [value(pack.observation[0])]
    expected, following = torch.zeros(12, 8), values[12]
    for t in reversed(range(12)):
        mixed = following if t == 11 else 0.5 * following + 0.5 * values[t + 1]
        if ring.truncated.numel():
            mixed = torch.where(truncated[t], value(ring.final_observation[0, at[t]]), mixed)
        following = reward[t] + 0.9 * (1 - terminated[t]) * mixed
        expected[t] = following
    torch.testing.assert_close(pack.memory.target[0, at], expected)
    if task == "Probe/Short-v0":
        assert truncated.any()
        assert terminated.any()


# --- what a pack promises ---


@pytest.mark.parametrize(
    "settings",
    [
        {"coupling": "scorer"},
        {"coupling": "inverted", "order": "leader_first", "batches": "shared", "follower_steps": 2},
        pytest.param({"coupling": "monolithic", "network": "cnn", "layer_norm": "hidden"}, marks=pytest.mark.slow),
        pytest.param({"coupling": "synchronous", "leader_penalty": "srank"}, marks=pytest.mark.slow),
        {"task": "CartPole-v1", "coupling": "monolithic_two_rates", "lambda_start": "official"},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_a_lane_equals_the_run_alone_bit_for_bit_at_any_place_in_any_pack(settings):
    configs = [config(**settings, leader_penalty_weight=0.5 + i, **lane) for i, lane in enumerate(LANES)]
    whole, whole_rows = train(configs, vector_steps=90)
    order = [3, 1]
    some, some_rows = train([configs[i] for i in order], vector_steps=90)
    for place, lane in enumerate(order):
        assert same(bits(some, place), bits(whole, lane))
        assert rows_of(some_rows, place) == rows_of(whole_rows, lane)
    alone, alone_rows = train([configs[2]], vector_steps=90)
    assert same(bits(alone, 0), bits(whole, 2))
    assert rows_of(alone_rows, 0) == rows_of(whole_rows, 2)
    assert not torch.equal(whole.players.phi[0], Pack([configs[0]], CPU).players.phi[0]), "nothing was learned"


def test_at_the_paper_s_sizes_too_a_lane_equals_the_run_alone():
    paper = resolve([{"preset": "paper_minatar_pqn", "task": "gymnax/breakout", "log_points": 1, "epochs": 1}])
    configs = [RunConfig(**paper | lane) for lane in LANES]
    whole, _ = train(configs, vector_steps=33)
    alone, _ = train(configs[3:], vector_steps=33)
    assert same(bits(alone, 0), bits(whole, 3))
    assert int(alone.players.updates) == 32


def test_a_nan_lane_is_reported_diverged_and_leaves_the_others_bits_alone():
    configs = [config(**lane) for lane in LANES]
    whole, _ = train(configs, vector_steps=120)
    poisoned, rows = train(configs, vector_steps=120, nan_lane=1)
    assert poisoned.diverged.tolist() == [False, True, False, False]
    assert all(row["diverged"] for row in rows_of(rows, 1))
    for lane in (0, 2, 3):
        assert same(bits(poisoned, lane), bits(whole, lane))


@pytest.mark.parametrize(("steps", "place"), [(9, (8, 0)), (11, (10, 1))], ids=str)
def test_a_pack_restored_in_a_rollout_or_between_epochs_goes_on_bit_for_bit_also_in_parts(steps, place):
    configs = [config(**lane, task="Probe/Short-v0") for lane in LANES]
    probes.register()
    whole, rows = train(configs, vector_steps=80)
    first, _ = train(configs, vector_steps=steps)
    assert (first.vector_step, first.part) == place
    chosen = [3, 1]
    for lanes in (None, chosen):
        second = Pack(configs if lanes is None else [configs[lane] for lane in chosen], CPU)
        second.restore(first.state(), lanes)
        later = []
        for _ in range(80 - steps):
            second.step()
            if second.log_is_due:
                later.append(second.log(0.0))
        for position, lane in enumerate(lanes or range(4)):
            assert same(bits(second, position), bits(whole, lane))
            assert rows_of(later, position) == rows_of(rows, lane)[-len(later) :]


def test_every_diagnostic_is_measured_but_the_drift_from_targets_that_pqn_does_not_have():
    _, rows = train([config(total_steps=6_000, log_points=2, seed=seed) for seed in (1, 2)], vector_steps=1200)
    for lane in (0, 1):
        assert [row["step"] for row in rows_of(rows, lane)] == [3000, 6000]
        last = rows_of(rows, lane)[-1]
        assert [name for name in METRICS if last[name] is None] == ["target_drift"]
        assert last["leader_loss"] == pytest.approx(last["msbe"] / 2)
        assert last["epsilon"] == pytest.approx(1 - 0.99 * 6000 / 250_000)
