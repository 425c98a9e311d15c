"""Run ids are promises: results on disk are found by them."""

from typing import Any

import pytest
import torch

from scorer_core import identity, registry
from scorer_core.config import RunConfig
from scorer_core.envs.compiled import GAMES
from scorer_core.envs.rules import ALL_ACTIONS
from scorer_core.metrics import MEASURED
from scorer_core.pack import Pack

# Never change a value: every run id that leaves this field at its default would mean another run. Add new fields here.
PINNED_DEFAULTS: dict[str, Any] = {
    "action_set": "minimal", "total_steps": 100_000_000, "num_envs": 128,
    "algorithm": "dqn", "double_features": "target", "dueling_head": "streams",
    "coupling": "scorer", "order": "follower_first", "follower_steps": 1, "batches": "separate",
    "follower_objective": "variance", "leader_penalty": "none", "schedule": "linear",
    "network": "mlp", "phi_widths": (128, 128), "theta_widths": (128,), "activation": "relu",
    "normalise_input": True, "normalise_features": True,
    "replay_size": 100_000, "batch_size": 64, "learning_starts": 10_000, "update_every": 128, "log_points": 100,
    "return_before_first_episode": "none", "matmul": "float32",
    "seed": 0, "leader_lr": 1e-4, "follower_lr": 5e-4, "lr_end": 0.0,
    "leader_power": 0.9, "follower_power": 0.6, "decay_rounds": 10_000.0,
    "follower_weight": 1.0, "leader_penalty_weight": 0.0, "max_grad_norm": 0.5, "gamma": 0.99,
    "epsilon_start": 1.0, "epsilon_end": 0.01, "epsilon_steps": 250_000, "target_every": 16_000,
    "rollout_steps": 32, "minibatches": 32, "epochs": 4, "td_lambda": 0.65, "lambda_start": "exact",
    "layer_norm": "none", "initial_weights": "orthogonal", "optimizer": "adam", "optimizer_epsilon": 1e-8,
    "learner": "default", "sources": {},
    "leader_loss_weight": 1.0, "decay_steps": None,
}  # fmt: skip

# Never change one of these: it would mean that no result of this version is found any more.
GOLDEN: list[tuple[dict[str, Any], str]] = [
    ({}, "f2125400c3b1d747"),
    ({"seed": 3}, "9c4af1cc0ac4655b"),
    ({"task": "CartPole-v1"}, "de5ee183bfc2aacb"),
    ({"task": "gymnax/asterix", "coupling": "inverted", "follower_lr": 1e-3}, "9a91bae5ceab35d2"),
    ({"coupling": "monolithic"}, "2397fb3e22340029"),
    ({"coupling": "synchronous", "gamma": 0.95}, "17b7ec263f55c0e0"),
    ({"algorithm": "dueling_ddqn", "network": "cnn"}, "771a801ac66469fc"),
    ({"schedule": "polynomial", "leader_power": 0.8}, "336137e9f57024f9"),
    ({"follower_objective": "msbe"}, "fee2dd57f6be7d11"),
    ({"follower_objective": 0.25, "order": "leader_first"}, "718396337b7ff441"),
    ({"num_envs": 32, "update_every": 4, "target_every": 1_000, "replay_size": 50_000}, "9029af8bdda6936e"),
    ({"phi_widths": (64,), "theta_widths": (), "activation": "tanh", "normalise_input": False}, "d0849c97e610d831"),
    ({"leader_penalty": "srank", "leader_penalty_weight": 0.1}, "c39ec920a77ddf54"),
    ({"return_before_first_episode": "zero"}, "8551331d1ce724c2"),
    ({"matmul": "tf32"}, "103b31d304a1c68b"),
    ({"algorithm": "pqn"}, "ae9f6546de43d330"),
    ({"algorithm": "pqn", "rollout_steps": 16, "minibatches": 8, "epochs": 2, "td_lambda": 0.9}, "22e6d52330ce6ee3"),
    (
        {"algorithm": "pqn", "lambda_start": "official", "decay_steps": 50_000_000, "epsilon_steps": 0.8},
        "6b92eb5908bec621",
    ),
    (
        {
            "layer_norm": "hidden_and_features",
            "normalise_features": False,
            "initial_weights": "lecun",
            "leader_loss_weight": 0.5,
        },
        "246f4c511ec382b4",
    ),
    ({"optimizer": "radam", "optimizer_epsilon": 1e-5}, "f023f79b274bf9ac"),
]


DEFAULT_TASK: dict[str, Any] = {"task": "minatar/breakout"}


def run(**settings: Any) -> RunConfig:
    return RunConfig(**DEFAULT_TASK | settings)


def test_no_default_has_changed():
    defaults = {name: field.default for name, field in RunConfig.model_fields.items() if not field.is_required()}
    assert defaults == PINNED_DEFAULTS


@pytest.mark.parametrize(("settings", "run_id"), GOLDEN, ids=str)
def test_run_ids_are_those_of_every_release_with_this_schema(settings, run_id):
    assert run(**settings).run_id == run_id


def test_a_new_field_with_a_default_renames_no_run():
    class Later(RunConfig):
        new: int = 3

    for settings, run_id in GOLDEN:
        assert Later(**DEFAULT_TASK | settings).run_id == run_id
        assert Later(**DEFAULT_TASK | settings, new=4).run_id != run_id


@pytest.mark.parametrize(("settings", "run_id"), GOLDEN, ids=str)
def test_a_run_with_another_seed_is_the_run_that_is_defined_with_this_seed(settings, run_id):
    first = run(**settings | {"seed": 7})
    for seed in (0, 7, 2**62 - 1):
        other, defined = first.with_seed(seed), run(**settings | {"seed": seed})
        assert other == defined
        assert other.model_dump_json() == defined.model_dump_json()
        assert (other.run_id, other.shape_id) == (defined.run_id, defined.shape_id)
    assert first.run_id == run(**settings | {"seed": 7}).run_id
    assert first.with_seed(settings.get("seed", 0)).run_id == run_id


def test_pack_ids_depend_on_the_runs_and_not_on_their_order():
    assert identity.pack_id(["b", "a"]) == identity.pack_id(["a", "b"]) == identity.digest(["a", "b"])


def test_the_games_whose_minimal_action_set_is_full_are_listed():
    assert tuple(name for name, game in GAMES.items() if game.ACTIONS == ALL_ACTIONS) == registry.FULL_ACTION_GAMES


SMALL: dict[str, Any] = {
    "total_steps": 120, "num_envs": 4, "update_every": 8, "replay_size": 60, "batch_size": 8, "learning_starts": 16,
    "epsilon_steps": 60, "target_every": 20, "phi_widths": (8,), "theta_widths": (8,), "log_points": 10,
}  # fmt: skip
PQN: dict[str, Any] = {"algorithm": "pqn", "rollout_steps": 5, "minibatches": 2, "epochs": 2, "log_points": 4}
SAME: list[list[dict[str, Any]]] = [
    [{"update_every": 4}, {"update_every": 1}, {"update_every": 3}],
    [{"target_every": 4}, {"target_every": 1}],
    [{"target_every": 121}, {"target_every": 10**9}],
    [{"learning_starts": 16}, {"learning_starts": 19}],
    [{"total_steps": 117}, {"total_steps": 120}],
    [{"replay_size": 60}, {"replay_size": 63}],
    [{"replay_size": 120}, {"replay_size": 100_000}],
    [{"log_points": 30}, {"log_points": 1_000}],
    [{"epsilon_start": 0.1, "epsilon_end": 0.1}, {"epsilon_start": 0.1, "epsilon_end": 0.1, "epsilon_steps": 7}],
    [{"decay_steps": 120}, {}, {"decay_steps": 117}],
    [{"decay_steps": 60}, {"decay_steps": 57}],
    [{"epsilon_steps": 0.5}, {"epsilon_steps": 60}],
    [{}, {"rollout_steps": 3, "minibatches": 5, "epochs": 1, "td_lambda": 0.1}],
    [PQN, PQN | {"replay_size": 61, "batch_size": 3, "learning_starts": 50, "update_every": 5, "target_every": 7}],
    [PQN | {"total_steps": 117}, PQN | {"total_steps": 120}],
    [{"task": "minatar/seaquest"}, {"task": "minatar/seaquest", "action_set": "full"}],
    [
        {"coupling": "monolithic", "leader_lr": 1e-3},
        {"coupling": "monolithic_two_rates", "leader_lr": 1e-3, "follower_lr": 1e-3},
    ],
]
DIFFERENT: list[list[dict[str, Any]]] = [
    [{"update_every": 4}, {"update_every": 5}],
    [{"update_every": 8}, {"update_every": 10}],
    [{"target_every": 4}, {"target_every": 5}],
    [{"target_every": 120}, {"target_every": 121}],
    [{"learning_starts": 15}, {"learning_starts": 16}],
    [{"total_steps": 116}, {"total_steps": 117}],
    [{"replay_size": 59}, {"replay_size": 60}],
    [{"replay_size": 116}, {"replay_size": 120}],
    [{"log_points": 29}, {"log_points": 30}],
    [{"action_set": "minimal"}, {"action_set": "full"}],
    [{"decay_steps": 120}, {"decay_steps": 116}],
    [{"decay_steps": 120}, {"decay_steps": 121}],
    [PQN, PQN | {"decay_steps": 60}],
    [PQN, PQN | {"td_lambda": 0.66}],
    [PQN, PQN | {"lambda_start": "official"}],
    [PQN, PQN | {"epochs": 1}],
    [
        {"coupling": "monolithic", "leader_lr": 1e-3},
        {"coupling": "monolithic_two_rates", "leader_lr": 1e-3, "follower_lr": 2e-3},
    ],
    [{"batches": "shared"}, {"batches": "separate"}],
    [{"batches": "shared", "follower_steps": 2}, {"batches": "separate", "follower_steps": 2}],
]


def metrics(config: RunConfig) -> list[dict[str, Any]]:
    """The rows that `config` logs, but for its name and the time it took."""
    pack, rows = Pack([config], torch.device("cpu")), []
    while not pack.finished:
        pack.step()
        if pack.log_is_due:
            rows += pack.log(0.0).drop_columns(["run_id", *MEASURED]).to_pylist()
    return rows


def text(rows: list[dict[str, Any]]) -> list[str]:
    """Rows in a form in which NaN equals NaN."""
    return [repr(row) for row in rows]


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("settings", SAME, ids=str)
def test_settings_that_compute_the_same_are_one_run(settings):
    configs = [run(**SMALL | some) for some in settings]
    assert len({config.run_id for config in configs}) == 1
    first, *others = (text(metrics(config)) for config in configs)
    assert all(other == first for other in others)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("settings", DIFFERENT, ids=str)
def test_settings_that_compute_something_else_are_another_run(settings):
    one, other = (run(**SMALL | some) for some in settings)
    assert one.run_id != other.run_id
    assert text(metrics(one)) != text(metrics(other))
