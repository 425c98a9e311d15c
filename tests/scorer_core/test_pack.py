"""What a pack promises: a lane equals the same run alone, bit for bit on a CPU, with any neighbours."""

from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from scorer_core import registry
from scorer_core.config import RunConfig
from scorer_core.metrics import METRICS
from scorer_core.native.program import Program
from scorer_core.pack import Pack, vmapped
from scorer_core.support.files import replace_file

CPU = torch.device("cpu")
LANES: list[dict[str, Any]] = [
    {"seed": 0},
    {"seed": 1, "leader_lr": 1e-3, "gamma": 0.9, "target_every": 24},
    {
        "seed": 2,
        "follower_weight": 0.3,
        "leader_power": 0.7,
        "max_grad_norm": 0.01,
        "epsilon_end": 0.5,
        "epsilon_steps": 50,
    },
    {"seed": 1, "follower_lr": 1e-2, "lr_end": 1.0, "epsilon_start": 0.3},
    {"seed": 3},
]


def config(**settings: Any) -> RunConfig:
    small: dict[str, Any] = {
        "task": "minatar/breakout", "num_envs": 6, "update_every": 6, "total_steps": 600, "learning_starts": 30,
        "batch_size": 10, "replay_size": 120, "log_points": 4, "phi_widths": (20, 12), "theta_widths": (8,),
        "target_every": 60,
    }  # fmt: skip
    return RunConfig(**(small | settings))


def train(configs, vector_steps=60, nan_lane: int | None = None) -> tuple[Pack, list]:
    """A pack after `vector_steps`, and the rows it logged by the way; from step 20 on, `nan_lane` is NaN."""
    pack, rows = Pack(configs, CPU), []
    for step in range(vector_steps):
        if step == 20 and nan_lane is not None:
            pack.players.theta[nan_lane] = float("nan")
        pack.step()
        if pack.log_is_due:
            rows.append(pack.log(steps_per_second=0.0))
    return pack, rows


def bits(pack: Pack, lane: int) -> list[torch.Tensor]:
    """Everything a lane has become."""
    kept = (pack.players, pack.memory, pack.observation, pack.last_return, pack.episodes, pack.learned)
    return [leaf[lane].clone() for leaf in tree_leaves(kept)]


def rows_of(rows, lane: int) -> list[dict]:
    """Missing values as None, so that equal rows are equal."""
    logged = [table.slice(lane, 1).to_pylist()[0] for table in rows]
    return [{name: None if value != value else value for name, value in row.items()} for row in logged]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        {"coupling": "scorer"},
        {"coupling": "inverted", "order": "leader_first", "follower_steps": 2},
        pytest.param({"coupling": "synchronous", "batches": "shared"}, marks=pytest.mark.slow),
        pytest.param({"coupling": "monolithic"}, marks=pytest.mark.slow),
        {"coupling": "monolithic_two_rates", "task": "minatar/seaquest"},
        {
            "algorithm": "dueling_ddqn",
            "follower_objective": "norm",
            "leader_penalty": "srank",
            "schedule": "polynomial",
        },
        pytest.param(
            {
                "algorithm": "ddqn",
                "double_features": "online",
                "coupling": "inverted",
                "leader_penalty": "feature_covariance",
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"network": "cnn", "algorithm": "dueling_dqn", "dueling_head": "shared", "phi_widths": (12,)},
            marks=pytest.mark.slow,
        ),
        {"task": "CartPole-v1", "activation": "tanh", "normalise_input": False},
        {"algorithm": "dueling_dqn", "dueling_head": "shared", "phi_widths": (1,), "theta_widths": (1,)},
        pytest.param({"task": "MinAtar/Asterix-v1", "batches": "shared"}, marks=pytest.mark.slow),
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_a_lane_equals_the_run_alone_bit_for_bit_at_any_place_in_any_pack(settings):
    configs = [config(**settings, leader_penalty_weight=0.5 + i, **lane) for i, lane in enumerate(LANES)]
    whole, whole_rows = train(configs)
    order = [3, 1, 4]
    some, some_rows = train([configs[i] for i in order])
    for place, lane in enumerate(order):
        assert same(bits(some, place), bits(whole, lane))
        assert rows_of(some_rows, place) == rows_of(whole_rows, lane)
    alone, alone_rows = train([configs[2]])
    assert same(bits(alone, 0), bits(whole, 2))
    assert rows_of(alone_rows, 0) == rows_of(whole_rows, 2)
    assert not torch.equal(whole.players.phi[0], Pack([configs[0]], CPU).players.phi[0]), "nothing was learned"
    assert {type(function) for function in whole._functions.values()} == {Program}, "no machine code for some"


@pytest.mark.parametrize("algorithm", ["dqn", "dueling_ddqn"])
def test_at_the_paper_s_sizes_too_a_lane_equals_the_run_alone(algorithm):
    paper: dict[str, Any] = {"task": "gymnax/breakout", "learning_starts": 128, "replay_size": 1280, "log_points": 1}
    configs = [RunConfig(**(paper | lane), algorithm=algorithm) for lane in LANES]
    whole, _ = train(configs, vector_steps=6)
    alone, _ = train(configs[3:4], vector_steps=6)
    assert same(bits(alone, 0), bits(whole, 3))


def test_traced_updates_have_the_bits_of_the_python_code_and_machine_code_its_values(request):
    configs = [config(**lane) for lane in LANES]
    native, _ = train(configs, vector_steps=26)
    request.getfixturevalue("traced")
    recorded, recorded_rows = train(configs, vector_steps=26)
    request.getfixturevalue("untraced")
    python, python_rows = train(configs, vector_steps=26)
    for lane in range(len(LANES)):
        assert same(bits(recorded, lane), bits(python, lane))
        assert rows_of(recorded_rows, lane) == rows_of(python_rows, lane)
    for ours, theirs in ((native.players, python.players), (native.learned, python.learned)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_where_torch_runs_the_functions_too_a_lane_equals_the_run_alone(monkeypatch):
    monkeypatch.setattr(Pack, "_function", lambda *arguments: vmapped(arguments[2]))
    narrow: dict[str, Any] = {
        "algorithm": "dueling_dqn",
        "dueling_head": "shared",
        "phi_widths": (1,),
        "theta_widths": (1,),
    }
    configs = [config(**lane, **narrow) for lane in LANES]
    whole, whole_rows = train(configs, vector_steps=26)
    alone, alone_rows = train(configs[1:2], vector_steps=26)
    assert same(bits(alone, 0), bits(whole, 1))
    assert rows_of(alone_rows, 0) == rows_of(whole_rows, 1)


def test_a_single_run_goes_on_from_a_checkpoint_in_which_it_was_computed_twice():
    twice, _ = train([config()] * 2, vector_steps=30)
    once = Pack([config()], CPU)
    once.restore(twice.state())
    for _ in range(10):
        once.step()
        twice.step()
    assert same(bits(once, 0), bits(twice, 1))
    others, _ = train([config(), config(seed=1)], vector_steps=30)
    with pytest.raises(ValueError, match="has shape"):
        Pack([config()], CPU).restore(others.state())


def test_code_of_parts_outside_of_scorer_core_is_not_kept_for_other_processes(monkeypatch):
    assert Pack([config()], CPU)._code_cache is not None
    monkeypatch.setitem(registry.FOLLOWER_OBJECTIVES, "variance", f"{__name__}:same")
    assert Pack([config()], CPU)._code_cache is None


def test_a_nan_lane_is_reported_diverged_and_leaves_the_others_bits_alone():
    configs = [config(**lane) for lane in LANES]
    whole, _ = train(configs)
    poisoned, rows = train(configs, nan_lane=1)
    assert poisoned.diverged.tolist() == [False, True, False, False, False]
    assert [row["diverged"] for row in rows_of(rows, 1)] == [True, True]
    for lane in (0, 2, 3, 4):
        assert same(bits(poisoned, lane), bits(whole, lane))


def test_a_restored_pack_goes_on_bit_for_bit():
    configs = [config(**lane) for lane in LANES[:3]]
    whole, rows = train(configs, vector_steps=70)
    first, _ = train(configs, vector_steps=37)
    second = Pack(configs, CPU)
    second.restore(first.state())
    later = []
    while second.vector_step < 70:
        second.step()
        if second.log_is_due:
            later.append(second.log(0.0))
    for lane in range(3):
        assert same(bits(second, lane), bits(whole, lane))
        assert rows_of(later, lane) == rows_of(rows, lane)[1:]


@pytest.mark.parametrize(
    "task",
    [
        pytest.param("minatar/seaquest", marks=pytest.mark.slow),
        pytest.param("CartPole-v1", marks=pytest.mark.slow),
        "MinAtar/Asterix-v1",
    ],
)
def test_lanes_taken_from_a_pack_go_on_as_they_would_have_there(task, tmp_path):
    configs = [config(task=task, **lane) for lane in LANES]
    whole, rows = train(configs, vector_steps=70)
    first, _ = train(configs, vector_steps=37)
    chosen = [3, 1]
    second = Pack([configs[lane] for lane in chosen], CPU)
    file = tmp_path / "state"  # MinAtar's own environments are pickled: they are restored from a private file only
    replace_file(file, first.state(), 0o600)
    second.restore(file.read_bytes(), chosen, file)
    later = []
    while second.vector_step < 70:
        second.step()
        if second.log_is_due:
            later.append(second.log(0.0))
    for place, lane in enumerate(chosen):
        assert same(bits(second, place), bits(whole, lane))
        assert rows_of(later, place) == rows_of(rows, lane)[1:]


def test_the_metrics_count_episodes_and_average_last_returns():
    pack, rows = train([config(seed=5)], vector_steps=100)
    assert pack.finished
    last = rows_of(rows, 0)[-1]
    assert [row["step"] for row in rows_of(rows, 0)] == [150, 300, 450, 600]
    assert last["episodes"] == pack.episodes.item() > 5
    assert last["return"] == pytest.approx(pack.last_return.mean().item())
    assert last["msbe"] >= last["be_variance"] > 0
    assert last["follower_lr"] == pytest.approx(5 * last["leader_lr"])
    assert last["leader_loss"] == pytest.approx(last["msbe"])
    assert last["epsilon"] == pytest.approx(1 - 0.99 * 600 / 250_000)


def test_diagnostics_are_read_where_enough_updates_lie_between_on_a_probe_that_stays():
    settings: dict[str, Any] = {"total_steps": 5100, "log_points": 10, "learning_starts": 30}
    pack, rows = train([config(seed=s, target_every=240, **settings) for s in (1, 2)], vector_steps=850)
    for lane in (0, 1):
        logged = rows_of(rows, lane)
        assert [row["step"] for row in logged if row["srank"] is not None] == [2550, 5100]
        last = logged[-1]
        assert [name for name in METRICS if last[name] is None] == []
        assert 1 <= last["effective_rank"] <= 12
        assert last["phi_distance"] > 0
        assert last["gradient_cosine"] < 1
    resumed = Pack(pack.configs, CPU)
    resumed.restore(pack.state())
    assert pack.probe is not None
    assert resumed.probe is not None
    assert not torch.equal(pack.probe.observation[0], pack.probe.observation[1])
    assert same(list(pack.probe), list(resumed.probe))


@pytest.mark.usefixtures("untraced")
def test_nothing_is_learned_before_learning_starts_and_losses_are_missing_not_zero():
    pack, rows = train([config(learning_starts=300, log_points=4)], vector_steps=26)
    assert pack.players.updates.item() == 0
    assert rows_of(rows, 0)[0]["msbe"] is None
    pack.step()
    while pack.env_steps <= 300:
        pack.step()
    assert pack.players.updates.item() == 1


@pytest.mark.usefixtures("untraced")
def test_targets_are_copied_when_their_boundary_is_crossed_lane_by_lane():
    pack = Pack([config(target_every=36), config(target_every=60)], CPU)
    copied = []
    for _ in range(20):
        pack.step()
        equal = (pack.players.phi == pack.players.targets.phi).all(1) & (pack.players.updates > 0)
        copied.append(equal.tolist())
    steps = [[(step + 1) * 6 for step, lanes in enumerate(copied) if lanes[lane]] for lane in (0, 1)]
    assert steps == [[36, 72, 108], [60, 120]]


@pytest.mark.usefixtures("untraced")
def test_an_update_interval_of_several_vector_steps_is_kept():
    pack = Pack([config(update_every=24, learning_starts=0)], CPU)
    updates = []
    for _ in range(12):
        pack.step()
        updates.append(pack.players.updates.item())
    assert updates == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3]


@pytest.mark.usefixtures("untraced")
def test_shared_batches_are_one_batch_for_the_leader_and_every_follower_step():
    drawn = []

    class Watched(Pack):
        def _vectorised(self, name, one_run, *arguments, **options):
            if name == "learn":
                _, memory, vector_step, draws, _ = arguments
                drawn.append((draws, torch.vmap(self.learner.batches)(memory, vector_step, draws)))
            return super()._vectorised(name, one_run, *arguments, **options)

    for batches, equal in (("shared", True), ("separate", False)):
        drawn.clear()
        pack = Watched([config(batches=batches, follower_steps=3, seed=seed) for seed in (0, 1)], CPU)
        while len(drawn) < 3:
            pack.step()
        for draws, (leader, followers) in drawn:
            assert draws.leader.shape == (2, 10)
            assert [indices.shape for indices in draws.followers] == ([] if equal else [(2, 10)] * 3)
            assert len(followers) == 3
            assert [same(list(leader), list(follower)) for follower in followers] == [equal] * 3
            assert same(list(followers[0]), list(followers[1])) is equal


def returns(**settings: Any) -> list[float | None]:
    """The logged returns of a run on Acrobot, whose episodes last 500 steps of -1 unless the task is solved."""
    random_play = config(task="Acrobot-v1", learning_starts=10**9, **settings)
    _, rows = train([random_play], settings["total_steps"] // 6)
    return [row["return"] for row in rows_of(rows, 0)]


def test_there_is_no_return_before_an_episode_has_ended():
    assert returns(total_steps=600) == [None] * 4
    long = returns(total_steps=6_000)
    assert long[:1] == [None]
    assert all(value is not None and -500 <= value < -60 for value in long[2:])


def test_the_official_code_s_return_of_zero_before_the_first_episode_is_a_setting():
    assert returns(total_steps=600, return_before_first_episode="zero") == [0.0] * 4


@pytest.mark.usefixtures("untraced")
def test_a_return_is_the_mean_over_the_environments_that_have_finished_an_episode():
    pack = Pack([config()], CPU)
    while not (ended := pack.counted[0]).any() or ended.all():
        pack.step()
    expected = pack.last_return[0][ended].mean().item()
    assert pack.log(0.0)["return"][0].as_py() == pytest.approx(expected)
    while not pack.counted.all():
        pack.step()
    exact = pack.last_return[:1].mean(1).item()
    assert pack.log(0.0)["return"][0].as_py() == exact, "the same bits as the mean over all environments"
