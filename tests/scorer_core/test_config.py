import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from scorer_core.config import DEFAULTS, LANE_FIELDS, SHAPE_FIELDS, RunConfig
from scorer_core.game import Lane
from scorer_core.learners.settings import OF_LEARNERS
from scorer_core.settings import resolve
from sweeps.reading import Loader

DOCS = Path(__file__).parents[2] / "docs"

TASK = "minatar/breakout"


def run(**settings: Any) -> RunConfig:
    return RunConfig(task=TASK, **settings)


def test_every_field_is_either_lane_or_shape_and_the_pack_carries_every_lane_field():
    assert set(LANE_FIELDS) | set(SHAPE_FIELDS) == set(RunConfig.model_fields)
    assert not set(LANE_FIELDS) & set(SHAPE_FIELDS)
    # decay_steps is carried as what the learning rates read: decay_updates.
    assert set(Lane._fields) == set(LANE_FIELDS) - {"decay_steps"} | {"decay_updates"}


def test_the_identity_depends_on_every_field():
    others: dict[str, Any] = {
        "task": "minatar/asterix", "action_set": "full", "total_steps": 10**6, "num_envs": 64, "coupling": "inverted",
        "algorithm": "dueling_ddqn",
        "order": "leader_first", "follower_steps": 2, "batches": "shared", "phi_widths": (64,), "theta_widths": (),
        "activation": "tanh", "normalise_input": False, "normalise_features": False, "replay_size": 1000,
        "batch_size": 32, "learning_starts": 0, "update_every": 256, "log_points": 10, "seed": 1, "leader_lr": 1e-3,
        "follower_lr": 1e-3, "lr_end": 0.5, "follower_objective": "norm", "follower_weight": 0.5,
        "schedule": "constant", "network": "cnn", "max_grad_norm": 1.0, "gamma": 0.9,
        "epsilon_start": 0.5, "epsilon_end": 0.1, "epsilon_steps": 10, "target_every": 10,
        "return_before_first_episode": "zero", "matmul": "tf32", "layer_norm": "hidden", "initial_weights": "he",
        "optimizer": "radam", "optimizer_epsilon": 1e-5, "leader_loss_weight": 0.5, "decay_steps": 10**6,
    }  # fmt: skip
    # Fields that only matter beside another: the other first.
    beside: dict[str, tuple[dict[str, Any], Any]] = {
        "double_features": ({"algorithm": "ddqn"}, "online"),
        "dueling_head": ({"algorithm": "dueling_dqn"}, "shared"),
        "leader_penalty": ({"leader_penalty": "srank", "leader_penalty_weight": 1}, "feature_norm"),
        "leader_penalty_weight": ({"leader_penalty": "srank", "leader_penalty_weight": 1}, 2),
        "leader_power": ({"schedule": "polynomial"}, 1.0),
        "follower_power": ({"schedule": "polynomial"}, 1.0),
        "decay_rounds": ({"schedule": "polynomial"}, 1.0),
        "rollout_steps": ({"algorithm": "pqn"}, 16),
        "minibatches": ({"algorithm": "pqn"}, 16),
        "epochs": ({"algorithm": "pqn"}, 2),
        "td_lambda": ({"algorithm": "pqn"}, 0.9),
        "lambda_start": ({"algorithm": "pqn"}, "official"),
    }
    by_plugins = {"learner", "sources"}  # tests/scorer_core/test_plugins.py
    assert others.keys() | beside.keys() | by_plugins == RunConfig.model_fields.keys()
    ids = {RunConfig(**{"task": TASK, field: value}).run_id for field, value in others.items()}
    assert len(ids | {run().run_id}) == len(others) + 1
    for field, (settings, value) in beside.items():
        assert run(**settings).run_id != run(**settings | {field: value}).run_id, field


@pytest.mark.parametrize(
    "settings",
    [
        {"double_features": "online", "dueling_head": "shared"},
        {"leader_power": 0.1, "follower_power": 0.1, "decay_rounds": 7},
        {"leader_penalty": "srank"},
        {"leader_penalty_weight": 3.0},
        {"schedule": "constant", "lr_end": 0.3},
        {"schedule": "constant", "decay_steps": 10**6},
        {"schedule": "polynomial", "decay_steps": 10**6},
        {"follower_objective": "norm", "follower_weight": 0.0},
        {"coupling": "synchronous", "follower_objective": "norm"},
        {"coupling": "monolithic", "schedule": "polynomial", "follower_power": 0.1},
    ],
    ids=str,
)
def test_settings_that_nothing_reads_do_not_make_another_run(settings):
    read = ("coupling", "schedule")
    plain = {key: value for key, value in settings.items() if key in read}
    if "norm" in settings.values():
        plain["follower_objective"] = "msbe"
    assert run(**settings).run_id == run(**plain).run_id


READ_BY_ONE: dict[str, dict[str, Any]] = {  # another value of each setting that only one kind of learner reads
    "dqn": {
        "double_features": "online", "replay_size": 50_000, "batch_size": 32, "learning_starts": 0,
        "update_every": 256, "target_every": 999,
    },
    "pqn": {"rollout_steps": 7, "minibatches": 5, "epochs": 1, "td_lambda": 0.1, "lambda_start": "official"},
}  # fmt: skip


@pytest.mark.parametrize(("algorithm", "other"), [("dqn", "pqn"), ("dueling_ddqn", "pqn"), ("pqn", "dqn")])
def test_a_setting_that_the_algorithm_does_not_read_takes_its_default(algorithm, other):
    assert {name for settings in READ_BY_ONE.values() for name in settings} == OF_LEARNERS
    plain = run(algorithm=algorithm)
    for name, value in READ_BY_ONE[other].items():
        written = run(algorithm=algorithm, **{name: value})
        assert getattr(written, name) == DEFAULTS[name], name
        assert written == plain
        assert written.run_id == plain.run_id
        assert written.shape_id == plain.shape_id
    assert run(algorithm="pqn", replay_size=1000).run_id == run(algorithm="pqn", replay_size=2000).run_id
    assert run(rollout_steps=16).run_id == run(rollout_steps=8).run_id


def test_sizes_that_the_algorithm_does_not_read_need_not_fit():
    assert run(algorithm="pqn", num_envs=64, batch_size=10**6, replay_size=1) == run(algorithm="pqn", num_envs=64)
    assert run(minibatches=7) == run()
    with pytest.raises(ValidationError, match=r"minibatches \(7\): a rollout of 4096 transitions"):
        run(algorithm="pqn", minibatches=7)


def test_epsilon_steps_below_1_is_a_fraction_of_decay_steps_or_without_it_of_total_steps():
    for written, steps in (
        ({"epsilon_steps": 0.5}, 50_000_000),
        ({"epsilon_steps": 0.5, "total_steps": 10_000}, 5_000),
        ({"epsilon_steps": 0.5, "total_steps": 10_000, "decay_steps": None}, 5_000),
        ({"epsilon_steps": 0.5, "total_steps": 10_000, "decay_steps": 4_000}, 2_000),
        ({"epsilon_steps": 0.3, "total_steps": 10_000, "decay_steps": 30_000}, 9_000),
        ({"epsilon_steps": 1e-9, "total_steps": 10_000}, 1),
        ({"epsilon_steps": 1}, 1),
    ):
        config, absolute = run(**written), run(**written | {"epsilon_steps": steps})
        assert type(config.epsilon_steps) is int
        assert config.epsilon_steps == steps
        assert config == absolute
        assert config.run_id == absolute.run_id
        assert config.run_id != run(**written | {"epsilon_steps": steps + 1}).run_id


def test_decay_steps_of_the_whole_run_are_none_and_of_another_length_another_run():
    whole = run(total_steps=10_000, num_envs=100)
    for same in (10_000, 9_901):  # in whole vector steps
        assert run(total_steps=10_000, num_envs=100, decay_steps=same).run_id == whole.run_id
    assert run(total_steps=10_000, num_envs=100, decay_steps=10_000) == whole
    others = [run(total_steps=10_000, num_envs=100, decay_steps=steps) for steps in (5_000, 9_900, 10_001, 20_000)]
    assert len({config.run_id for config in [whole, *others]}) == 5
    assert [config.decay_updates / whole.num_updates for config in others] == pytest.approx([0.5, 0.99, 1.01, 2.0])
    assert others[0].run_id == run(total_steps=10_000, num_envs=100, decay_steps=4_901).run_id


@pytest.mark.parametrize("field", ["coupling", "follower_objective", "leader_penalty", "schedule", "network"])
def test_a_name_that_is_not_registered_is_refused_with_those_that_are(field):
    with pytest.raises(ValidationError, match="unknown name 'surprise'; choose from: ") as caught:
        run(**{field: "surprise", "leader_penalty_weight": 1})
    assert field in str(caught.value)


def test_equal_shapes_differ_in_lane_fields_alone():
    assert run(seed=1, leader_lr=1e-2).shape_id == run().shape_id
    assert run(batch_size=32).shape_id != run().shape_id


def test_settings_a_coupling_ignores_do_not_make_another_run():
    monolithic = run(coupling="monolithic")
    assert run(coupling="monolithic", follower_lr=1.0, follower_objective="msbe", order="leader_first") == monolithic
    assert run(coupling="monolithic", follower_steps=3, batches="separate").run_id == monolithic.run_id
    assert monolithic.follower_lr == monolithic.leader_lr
    assert monolithic.ratio is None
    assert run(coupling="scorer", follower_lr=1.0).run_id != run(coupling="scorer").run_id


@pytest.mark.parametrize(("word", "weight"), [("variance", 1.0), ("msbe", 0.0), (0.25, 0.25), ("0.25", 0.25)])
def test_the_follower_s_objective_is_a_word_or_variance_s_weight(word, weight):
    config = run(follower_objective=word)
    assert (config.follower_objective, config.follower_weight) == ("variance", weight)
    assert config.shape_id == run().shape_id, "weights share a pack"


RATES = ("leader_lr", "follower_lr")
TABLE = re.findall(r"^\| (`\{.*`) \| (\S+) \| (\S+) \|$", (DOCS / "learning-rates.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("layers", "leader_lr", "follower_lr"), TABLE)
def test_every_row_of_the_documented_table_of_learning_rates_is_true(layers, leader_lr, follower_lr):
    written = [yaml.load(layer, Loader) for layer in re.findall(r"`(.*?)`", layers)]
    config = run(**resolve(written))
    assert (config.leader_lr, config.follower_lr) == (float(leader_lr), float(follower_lr))


SETTINGS = [
    {"leader_lr": 2e-4},
    {"follower_lr": 3e-3},
    {"ratio": 7},
    {"fixed_lr": "follower"},
    {"preset": "paper_control"},
]


@pytest.mark.parametrize("layers", list(itertools.permutations(SETTINGS)), ids=str)
def test_in_every_order_the_layers_set_last_determine_the_rates(layers):
    """The rule once more: a ratio set no earlier than the rate that follows is in force."""
    rate, at = {"leader_lr": 1e-4, "follower_lr": 5e-4}, {"leader_lr": 0, "follower_lr": 0, "ratio": -1}
    ratio, held, other = 1.0, "leader_lr", "follower_lr"
    for time, layer in enumerate(layers, start=1):
        ((name, value),) = layer.items()
        if name == "fixed_lr":
            held, other = "follower_lr", "leader_lr"
            continue
        if name == "preset":
            rate, at = {"leader_lr": 1e-4, "follower_lr": 3e-4}, at | {"leader_lr": time, "follower_lr": time}
        elif name == "ratio":
            ratio, at["ratio"] = value, time
        else:
            rate[name], at[name] = value, time
        if at["ratio"] >= at[other]:
            rate[other] = rate[held] * ratio if held == "leader_lr" else rate[held] / ratio
    leader_lr, follower_lr = rate.values()
    config = run(**{"replay_size": 100_000, **resolve(layers)})
    assert [config.leader_lr, config.follower_lr] == pytest.approx([leader_lr, follower_lr], rel=1e-11)


def test_a_preset_after_another_leaves_nothing_of_the_first():
    assert run(**resolve([{"preset": "paper_control"}, {"preset": "paper_minatar"}])) == run()


def test_a_ratio_that_contradicts_both_rates_is_refused():
    with pytest.raises(ValueError, match="ratio: 5 is not follower_lr / leader_lr"):
        resolve([{"leader_lr": 1e-4, "follower_lr": 1e-4, "ratio": 5}])


def test_a_player_that_does_not_exist_holds_no_rate():
    with pytest.raises(ValueError, match="fixed_lr: 'both' is not leader or follower"):
        resolve([{"fixed_lr": "both"}])


@pytest.mark.parametrize("ratio", [0, -1, float("nan"), float("inf"), "much", True])
def test_a_ratio_must_be_a_positive_number(ratio):
    with pytest.raises(ValueError, match="ratio: "):
        resolve([{"ratio": ratio}])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 200_000}, "batch_size .* is larger than replay_size"),
        ({"replay_size": 100}, "replay_size .* is smaller than num_envs"),
        ({"total_steps": 100}, "total_steps .* is less than one step"),
        ({"leader_lr": float("nan")}, "leader_lr"),
        ({"gamma": 1.5}, "gamma"),
        ({"seed": -1}, "seed"),
        ({"surprise": 1}, "surprise"),
        # not read, and wrong all the same
        ({"leader_power": 99}, "leader_power"),
        ({"decay_rounds": 0}, "decay_rounds"),
        ({"rollout_steps": 0}, "rollout_steps"),
        ({"algorithm": "pqn", "replay_size": 0}, "replay_size"),
        ({"schedule": "constant", "decay_steps": 0}, "decay_steps"),
        ({"epsilon_steps": 0.0}, "epsilon_steps"),
        ({"epsilon_steps": -0.5}, "epsilon_steps"),
        ({"epsilon_steps": 1.5}, "epsilon_steps"),
        ({"epsilon_steps": 0.5, "total_steps": float("inf")}, "total_steps"),
        ({"epsilon_steps": 0.5, "total_steps": float("nan")}, "total_steps"),
        ({"epsilon_steps": 0.5, "decay_steps": 10**400}, "decay_steps"),
        ({"leader_penalty_weight": -1}, "leader_penalty_weight"),
        ({"leader_penalty": "surprise"}, "leader_penalty"),
        ({"coupling": "monolithic", "follower_lr": -1}, "follower_lr"),
        ({"coupling": "monolithic", "follower_objective": "surprise"}, "follower_objective"),
        ({"coupling": "monolithic", "order": "both"}, "order"),
        ({"schedule": "constant", "lr_end": 2}, "lr_end"),
        ({"follower_objective": "msbe", "follower_weight": 2}, "follower_weight: 2 is not a number from 0 to 1"),
        ({"follower_objective": 0.5, "follower_weight": True}, "follower_weight: True is not a number"),
        ({"dueling_head": "none"}, "dueling_head"),
    ],
)
def test_settings_that_cannot_run_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        run(**settings)


NUMBERS = [
    name
    for name, field in RunConfig.model_fields.items()
    if field.annotation in (int, float) or name in ("phi_widths", "theta_widths", "decay_steps")
]


@pytest.mark.parametrize("field", [*NUMBERS, "follower_objective"])
def test_a_truth_value_is_not_a_number(field):
    with pytest.raises(ValidationError, match="true is not a number" if field in NUMBERS else "valid string"):
        run(**{field: [True] if field.endswith("widths") else True})


@pytest.mark.parametrize("field", ["normalise_input", "normalise_features"])
def test_a_number_is_not_a_truth_value(field):
    with pytest.raises(ValidationError, match=field):
        run(**{field: 1})


@pytest.mark.parametrize("task", ["minatar/pong", "NoSuchTask-v0", "Pendulum-v1", "", "minatar/"])
def test_a_task_that_does_not_exist_or_does_not_fit_is_refused(task):
    with pytest.raises(ValidationError, match="task"):
        RunConfig(task=task)


def test_the_minatar_preset_has_the_official_code_s_effective_periods():
    config = run(**resolve([{"preset": "paper_minatar"}]))
    assert config.update_every == config.num_envs == 128
    assert config.target_every == 16_000
    assert config.vector_steps == 781_250
    assert (config.leader_lr, config.ratio, config.batch_size, config.max_grad_norm) == (1e-4, 5.0, 64, 0.5)


def test_the_control_preset_is_the_paper_s():
    config = RunConfig(task="CartPole-v1", **resolve([{"preset": "paper_control"}]))
    assert (config.num_envs, config.total_steps, config.replay_size, config.update_every) == (10, 10**6, 50_000, 10)
    assert (config.phi_widths, config.theta_widths, config.activation) == ((64,), (64,), "tanh")
    assert (config.leader_lr, config.follower_lr, config.max_grad_norm) == (1e-4, 3e-4, 0.3)
    assert (config.normalise_input, config.normalise_features) == (False, False)
    assert (config.epsilon_end, config.epsilon_steps, config.target_every) == (0.01, 250_000, 1_000)
