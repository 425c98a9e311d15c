import re

import pytest
import torch

from scorer_core.config import RunConfig
from scorer_core.pack import Pack
from sweeps import layout, price
from sweeps.layout import choose, even, makespan, wall_seconds


def runs(number: int, **settings) -> list[RunConfig]:
    return [RunConfig(**({"task": "minatar/breakout", "seed": seed} | settings)) for seed in range(number)]


@pytest.mark.parametrize(("number", "processes"), [(7, 2), (30, 2), (240, 4), (3, 8)])
def test_no_other_size_of_pack_is_estimated_to_be_done_sooner(number, processes):
    configs = runs(number)
    chosen = choose(configs, processes=processes)
    least = wall_seconds([configs], chosen.lanes, processes)
    assert least <= min(wall_seconds([configs], n, processes) for n in layout.CANDIDATES) * 1.001


def test_the_choice_keeps_every_process_busy_and_says_why():
    chosen = choose(runs(30), processes=2)
    assert len(even(30, chosen.lanes)) >= 2
    others = r"\(alternatives: [\d.]+ (s|min|h) with \d+.*\)"
    assert re.match(
        rf"Up to {chosen.lanes} lanes per pack {others}, one thread per pack\.",
        chosen.why,
    )


def test_what_was_asked_for_is_kept_and_named():
    chosen = choose(runs(30), lanes=5, processes=3)
    assert (chosen.lanes, chosen.processes) == (5, 3)
    assert chosen.why == "Up to 5 lanes per pack, as requested."


def test_replays_of_all_processes_fit_the_memory(monkeypatch):
    monkeypatch.setattr(layout, "MEMORY_FRACTION", 1e-3)
    chosen = choose(runs(30, replay_size=100_000), processes=2)
    replay = 100_128 * price.transition_bytes("minatar/breakout")
    memory = layout.os.sysconf("SC_PHYS_PAGES") * layout.os.sysconf("SC_PAGE_SIZE")
    assert chosen.lanes == max(1, int(1e-3 * memory / 2 / replay)) < 30


def test_the_reason_says_that_gpu_speed_was_not_measured():
    chosen = choose(runs(300), device="cuda")
    assert (chosen.lanes, chosen.processes) == (290, 1)
    assert "GPU speed has not been measured yet" in chosen.why


def test_once_a_gpu_was_measured_its_speed_chooses_the_layout(monkeypatch):
    slow, fast = price.Speed(start=10, fixed=1e-3, lane=1e-3), price.Speed(start=10, fixed=1e-3, lane=1e-6)
    monkeypatch.setattr(price, "measured", lambda: {"cpu": {"dqn": slow}, "cuda": {"dqn": fast}})
    chosen = choose(runs(300), device="cuda:0")
    assert (chosen.lanes, chosen.processes, chosen.device) == (240, 1, "cuda")
    assert wall_seconds([runs(300)], 300, 1, "cuda") < wall_seconds([runs(300)], 300, 1) / 10


def test_packs_are_even_and_none_is_too_large():
    assert even(10, 4) == [3, 3, 4]
    assert even(8, 4) == [4, 4]
    assert even(3, 16) == [3]


def test_the_longest_pack_is_started_first():
    assert makespan([1, 1, 1, 3], 2) == 3


def test_the_arithmetic_of_the_paper_s_setting_is_some_eighty_million_operations_a_vector_step():
    """By hand, of weights without heads: 51,200 of the first layer and three times 16,384."""
    acting, learning = price.flop(runs(1)[0])
    assert acting == 2 * 128 * (51_200 + 2 * 16_384)
    follower, leader = 51_200 + 2 * 16_384 + 16_384, 16_384
    forward = 51_200 + 2 * 16_384
    assert learning == 2 * 64 * (4 * forward + follower + leader)
    assert 79e6 < acting + learning < 82e6


def test_the_arithmetic_of_the_paper_s_pqn_has_no_targets_and_four_epochs():
    """By hand, of weights without heads: 51,200 of the perception and 8,192 of the control."""
    config = price.reference("pqn")
    acting, learning = price.flop(config)
    forward, control = 51_200 + 8_192, 8_192
    assert acting == 2 * 128 * forward
    assert learning == 2 * 128 * (2 * forward + (51_200 + control) + control)
    assert price.updates_per_vector_step(config) == 4


def test_the_speed_of_a_family_that_was_not_measured_on_a_device_is_estimated_from_dqn(monkeypatch):
    speed = price.Speed(start=0, fixed=0, lane=1e-3)
    monkeypatch.setattr(price, "measured", lambda: {"cpu": {"dqn": speed}})
    pqn = runs(1, algorithm="pqn", phi_widths=(128,), theta_widths=(64,))[0]
    operations = price.flop_per_vector_step(pqn) / price.flop_per_vector_step(price.reference("dqn"))
    assert price.cost(pqn, 1).seconds == pytest.approx(pqn.vector_steps * 1e-3 * operations)


def test_the_price_grows_with_lanes_steps_and_follower_steps_and_python_environments_cost_more():
    config = runs(1)[0]
    assert price.cost(config, 8).seconds > price.cost(config, 4).seconds
    more = runs(1, follower_steps=3)[0]
    assert price.cost(more, 8).seconds > price.cost(config, 8).seconds
    small = {"phi_widths": (8,), "theta_widths": (8,), "total_steps": 100_000}
    python, ours = runs(1, task="CartPole-v1", **small)[0], runs(1, **small)[0]
    assert price.cost(python, 8).seconds > price.cost(ours, 8).seconds


@pytest.mark.parametrize("algorithm", ["dqn", "pqn"])
@pytest.mark.parametrize("task", ["minatar/breakout", "minatar/seaquest", "CartPole-v1", "MinAtar/Breakout-v1"])
def test_the_memory_estimate_is_the_size_of_the_ring_in_bytes(task, algorithm):
    config = runs(1, task=task, num_envs=4, replay_size=400, batch_size=8, algorithm=algorithm)[0]
    pack = Pack([config], torch.device("cpu"))
    held = sum(tensor.numel() * tensor.element_size() for tensor in pack.learner.recent(pack.memory))
    assert config.memory_transitions * price.transition_bytes(task) == held
