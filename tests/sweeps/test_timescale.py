"""The two-timescale conditions against what the schedules do when they are summed."""

import math
from typing import Any

import pytest

from scorer_core.config import RunConfig
from sweeps.loading import load
from sweeps.timescale import conditions, rates, tails, timescales

INFINITE, SQUARES, VANISHES, THEOREM = range(4)


def run(**settings: Any) -> RunConfig:
    return RunConfig(task="gymnax/breakout", **settings)


def held(**settings: Any) -> list[bool]:
    return [condition.holds for condition in conditions(run(**settings))]


def test_which_conditions_each_schedule_meets():
    assert held(schedule="linear") == [False, True, False, False]
    assert held(schedule="linear", lr_end=0.1) == [True, False, False, True]
    assert held(schedule="constant") == [True, False, False, True]
    assert held(schedule="polynomial") == [True, True, True, True]
    assert held(schedule="polynomial", leader_power=0.6) == [True, True, False, False]
    assert held(schedule="polynomial", leader_power=0.7) == [True, True, True, False]
    assert held(schedule="polynomial", leader_power=1.2) == [False, True, True, True]
    assert held(schedule="polynomial", follower_power=0.4) == [True, False, True, True]
    assert held(coupling="monolithic") == []
    for hundredths in range(40, 67):
        leader_power, follower_power = round(1.5 * hundredths) / 100, hundredths / 100
        expected = leader_power >= 1.5 * follower_power - 1e-9
        assert held(schedule="polynomial", leader_power=leader_power, follower_power=follower_power)[3] is expected


@pytest.mark.parametrize("powers", [(0.9, 0.6), (0.6, 0.6), (1.0, 0.55)])
def test_a_tail_is_the_slope_of_the_rate_that_training_uses(powers):
    config = run(schedule="polynomial", leader_power=powers[0], follower_power=powers[1])
    early, late = rates(config, 1e9), rates(config, 1e10)
    slopes = [-math.log10(b / a) for a, b in zip(early, late, strict=True)]
    assert slopes == pytest.approx(tails(config), abs=1e-4)
    assert rates(config, 0) == pytest.approx((config.leader_lr, config.follower_lr))


def test_a_linear_rate_ends_at_zero_or_stays_at_its_end():
    assert rates(run(), run().num_updates * 2) == (0, 0)
    assert tails(run()) == (math.inf, math.inf)
    assert rates(run(lr_end=0.5), run().num_updates * 2) == pytest.approx((5e-5, 2.5e-4))


def test_the_shipped_schedules_meet_different_conditions():
    found = {name: scales for scales in timescales(load("timescale")) for name in scales.variants}
    assert all(condition.holds for condition in found["vanishing-ratio"].conditions)
    assert [condition.holds for condition in found["equal-powers"].conditions] == [True, True, False, False]
    assert found["dqn"].conditions == ()
    assert "is constant" in found["linear"].conditions[VANISHES].why
