import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rliable import library, metrics

from analysis import rliable_exact
from analysis.statistics import AGGREGATE_NAMES
from tests.analysis.test_statistics import score_matrices

NUMPY_SEEDS = st.integers(0, 2**32 - 1)
AGGREGATES = tuple(AGGREGATE_NAMES)


def all_four(scores):
    return np.array([rliable_exact.EXACT[aggregate](scores) for aggregate in AGGREGATES])


@given(st.lists(score_matrices(), min_size=1, max_size=2), NUMPY_SEEDS, st.sampled_from([0.95, 0.8]))
@settings(max_examples=20, deadline=None)
def test_interval_estimates_are_bit_identical(matrices, seed, level):
    scores = {str(i): matrix for i, matrix in enumerate(matrices)}
    np.random.seed(seed)
    theirs = library.get_interval_estimates(scores, all_four, reps=60, confidence_interval_size=level)
    ours = rliable_exact.interval_estimates(scores, AGGREGATES, 60, seed, level)
    for oracle, found in zip(theirs, ours, strict=True):
        for name in scores:
            np.testing.assert_array_equal(found[name], oracle[name])


def test_bit_identity_holds_across_the_blocks_draws_come_in(monkeypatch):
    monkeypatch.setattr(rliable_exact, "BLOCK", 1000)
    scores = {"a": np.random.default_rng(0).lognormal(size=(30, 5)), "b": np.random.default_rng(1).normal(size=(7, 5))}
    np.random.seed(3)
    _, theirs = library.get_interval_estimates(scores, all_four, reps=500)
    _, ours = rliable_exact.interval_estimates(scores, AGGREGATES, 500, seed=3)
    for name in scores:
        np.testing.assert_array_equal(ours[name], theirs[name])


@given(score_matrices(), NUMPY_SEEDS)
@settings(max_examples=15, deadline=None)
def test_profiles_are_bit_identical(matrix, seed):
    thresholds = np.linspace(-3, 3, 7)
    np.random.seed(seed)
    theirs = library.create_performance_profile({"a": matrix}, thresholds, reps=40)
    for oracle, found in zip(
        theirs, rliable_exact.performance_profiles({"a": matrix}, thresholds, 40, seed), strict=True
    ):
        np.testing.assert_array_equal(found["a"], oracle["a"])


@given(st.integers(1, 3).flatmap(lambda tasks: st.tuples(*[score_matrices(tasks=st.just(tasks))] * 2)), NUMPY_SEEDS)
@settings(max_examples=15, deadline=None)
def test_probabilities_of_improvement_are_bit_identical(pair, seed):
    def probability(ours, theirs):
        return np.array([metrics.probability_of_improvement(ours, theirs)])

    np.random.seed(seed)
    theirs = library.get_interval_estimates({"a,b": pair}, probability, reps=30)
    ours = rliable_exact.probabilities_of_improvement({"a,b": pair}, 30, seed)
    for oracle, found in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(found["a,b"], oracle["a,b"])


def test_efficiency_curves_are_bit_identical():
    curves = np.random.default_rng(2).normal(size=(6, 3, 9))
    np.random.seed(11)
    theirs = library.get_interval_estimates(
        {"a": curves}, lambda x: np.array([metrics.aggregate_iqm(x[..., frame]) for frame in range(9)]), reps=100
    )
    ours = rliable_exact.efficiency_curves({"a": curves}, 100, seed=11)
    for oracle, found in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(found["a"], oracle["a"])


@pytest.mark.parametrize("bad", [np.array([[1.0, np.nan]]), np.array([[np.inf]]), np.zeros(3), np.zeros((0, 2))])
def test_what_rliable_would_turn_into_nan_or_nonsense_is_refused(bad):
    with pytest.raises(ValueError, match="a: "):
        rliable_exact.interval_estimates({"a": bad})
    with pytest.raises(ValueError, match="a: "):
        rliable_exact.performance_profiles({"a": bad}, np.array([0.0]))
