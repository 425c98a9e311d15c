from typing import get_args

import numpy as np
import pytest

from analysis.choices import Scheme
from analysis.normalize import normalization

CURVE = {"minatar/breakout": np.array([1.0, 2.0, 5.0, 4.0]), "Unknown-v0": np.array([-500.0, -90.0, -100.0])}


def test_references_are_a_random_policy_and_a_cited_score():
    scale = normalization("references", ["minatar/breakout", "CartPole-v1"], {})
    scaled = scale(np.array([[0.38, 475.0], [19.21, 22.2]]), ["minatar/breakout", "CartPole-v1"])
    np.testing.assert_allclose(scaled, [[0, 1], [1, 0]])
    assert "0 is a random policy, 1 is the paper's DQN (minatar/breakout)" in scale.caption
    assert scale.fallback == ()


def test_a_task_without_a_reference_falls_back_to_the_baseline_and_is_named():
    scale = normalization("references", ["minatar/breakout", "Unknown-v0"], CURVE)
    assert scale.fallback == ("Unknown-v0",)
    assert (scale.zero["Unknown-v0"], scale.one["Unknown-v0"]) == (-500, -90)
    assert "the baseline's mean curve (Unknown-v0)" in scale.caption


def test_the_baseline_s_own_scale_runs_from_random_to_its_highest():
    scale = normalization("baseline", ["minatar/breakout"], CURVE)
    assert (scale.zero["minatar/breakout"], scale.one["minatar/breakout"]) == (0.38, 5.0)


def test_the_paper_s_scale_and_none():
    assert normalization("paper", ["minatar/breakout"], {}).one == {"minatar/breakout": 63.93}
    none = normalization("none", ["minatar/breakout", "Unknown-v0"], CURVE)
    scores = np.array([[3.0, -7.0]])
    np.testing.assert_array_equal(none(scores, ["minatar/breakout", "Unknown-v0"]), scores)
    assert none.fallback == ()


def test_without_any_curve_the_returns_stay_as_they_are():
    scale = normalization("references", ["Unknown-v0"], {})
    assert (scale.zero, scale.one) == ({"Unknown-v0": 0.0}, {"Unknown-v0": 1.0})


def test_another_action_set_has_another_random_policy():
    assert normalization("references", ["minatar/breakout"], {}, "full").zero == {"minatar/breakout": 0.51}


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_curves_are_scaled_like_scores(scheme):
    tasks = ["minatar/breakout", "minatar/asterix"]
    scale = normalization(scheme, tasks, CURVE)
    curves = np.random.default_rng(0).normal(size=(3, 2, 4))
    np.testing.assert_array_equal(scale(curves, tasks)[..., 2], scale(curves[..., 2], tasks))


def test_the_scale_s_hash_follows_its_numbers():
    games = ("breakout", "breakout", "asterix")
    one, same, other = (normalization("references", [f"minatar/{game}"], {}).reference_hash for game in games)
    assert one == same != other
