import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rliable import library, metrics

from analysis.comparisons import improvement
from analysis.statistics import (
    AGGREGATES,
    Bootstrap,
    Estimate,
    estimate,
    few_seeds_widening,
    iqm,
    mean,
    median,
    ones,
    optimality_gap,
    profile,
)

ORACLES = {
    iqm: metrics.aggregate_iqm,
    mean: metrics.aggregate_mean,
    median: metrics.aggregate_median,
    optimality_gap: metrics.aggregate_optimality_gap,
}
FINITE = st.floats(-1e3, 1e3, allow_nan=False, width=32) | st.integers(-2, 2).map(float)


SEEDS, TASKS = st.integers(1, 12), st.integers(1, 6)


def score_matrices(seeds=SEEDS, tasks=TASKS):
    return st.tuples(seeds, tasks).flatmap(lambda shape: arrays(np.float64, shape, elements=FINITE))


@given(score_matrices())
@settings(max_examples=150, deadline=None)
def test_point_estimates_are_rliables(scores):
    for ours, theirs in ORACLES.items():
        np.testing.assert_allclose(ours(scores, ones(np.isfinite(scores)))[0], theirs(scores), atol=1e-9, rtol=1e-9)


@given(score_matrices(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_replication_is_rliables_statistic_of_the_runs_drawn(scores, seed):
    counts = Bootstrap(reps=3, seed=seed).counts(np.isfinite(scores))
    assert (counts.sum(0) == len(scores)).all()
    for replication in range(3):
        drawn = np.stack([np.repeat(scores[:, t], counts[:, t, replication]) for t in range(scores.shape[1])], axis=1)
        for ours, theirs in ORACLES.items():
            np.testing.assert_allclose(ours(scores, counts)[replication], theirs(drawn), atol=1e-9, rtol=1e-9)


@given(score_matrices(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_profiles_are_rliables(scores, of_averages):
    thresholds = np.linspace(-3, 3, 13)
    found = profile(scores, thresholds, Bootstrap(reps=10), of_averages).value
    oracle = library.average_score_distributions if of_averages else library.score_distributions
    np.testing.assert_allclose(found, oracle(scores, thresholds), atol=1e-12)


@given(st.integers(1, 4).flatmap(lambda tasks: st.tuples(*[score_matrices(tasks=st.just(tasks))] * 2)))
@settings(max_examples=60, deadline=None)
def test_probability_of_improvement_is_rliables(pair):
    ours, theirs = pair
    found = improvement(ours, theirs, Bootstrap(reps=10))
    np.testing.assert_allclose(found.value, metrics.probability_of_improvement(ours, theirs), atol=1e-12)


def test_intervals_agree_with_rliables_up_to_the_noise_of_resampling():
    scores = np.random.default_rng(1).lognormal(size=(10, 3))
    np.random.seed(0)
    _, theirs = library.get_interval_estimates({"a": scores}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=3000)
    found = estimate(scores, Bootstrap(few_seeds_correction=False))
    width = found.high - found.low
    np.testing.assert_allclose([found.low, found.high], theirs["a"][:, 0], atol=0.05 * float(width))


def test_the_seed_is_honoured_whatever_was_asked_before():
    scores, others = np.random.default_rng(0).normal(size=(2, 8, 3))
    alone = estimate(scores, Bootstrap(1000, seed=5))
    bootstrap = Bootstrap(1000, seed=5)
    estimate(others, bootstrap, "mean")
    assert estimate(scores, bootstrap) == alone
    assert estimate(scores, Bootstrap(1000, seed=6)) != alone


def test_missing_runs_leave_the_rest_of_their_task_to_be_drawn():
    scores = np.random.default_rng(0).normal(size=(6, 2))
    scores[4:, 1] = np.nan
    counts = Bootstrap(500).counts(np.isfinite(scores))
    assert (counts.sum(0) == [[6], [4]]).all()
    assert (counts[4:, 1] == 0).all()
    assert estimate(scores, Bootstrap(500), "mean").value == pytest.approx(
        np.mean([scores[:, 0].mean(), scores[:4, 1].mean()])
    )


def test_runs_are_drawn_evenly():
    counts = Bootstrap(20_000).counts(np.ones((5, 2), bool))
    np.testing.assert_allclose(counts.mean(-1), 1, atol=0.03)
    np.testing.assert_allclose(counts.var(-1), 0.8, atol=0.04)  # n (1/n) (1 - 1/n)
    drawn_together = np.corrcoef(counts[0, 0], counts[0, 1])[0, 1]
    assert abs(drawn_together) < 0.03  # tasks are strata of their own


def test_one_seed_has_no_interval():
    found = estimate(np.array([[1.0, 2.0]]), Bootstrap(100))
    assert found.value == 1.5
    assert np.isnan([found.low, found.high]).all()


def test_the_correction_widens_by_what_was_measured_and_vanishes():
    assert few_seeds_widening(np.ones((3, 5), bool)) == pytest.approx(np.sqrt(1.5) * 2.2281 / 1.95996, rel=1e-4)
    assert few_seeds_widening(np.ones((1000, 5), bool)) == pytest.approx(1, abs=0.002)


def test_a_task_with_a_single_run_gives_no_interval():
    """Its resamples are all equal, so the interval would be too narrow; a task without a run is simply not used."""
    scores = np.random.default_rng(0).normal(size=(6, 3))
    scores[1:, 1] = np.nan
    available = np.isfinite(scores)
    assert np.isnan(few_seeds_widening(available))
    for correction in (True, False):
        bootstrap = Bootstrap(100, few_seeds_correction=correction)
        for aggregate in AGGREGATES:
            found = estimate(scores, bootstrap, aggregate)
            assert np.isfinite(found.value)
            assert np.isnan([found.low, found.high]).all()
        assert np.isnan(profile(scores, np.linspace(0, 1, 3), bootstrap).low).all()
    scores[:, 1] = np.nan
    assert np.isfinite(estimate(scores, Bootstrap(100)).low)


def test_an_interval_without_width_separates_nothing():
    equal, other, wide = (Estimate(*map(np.asarray, numbers)) for numbers in ((5, 5, 5), (7, 7, 7), (1, 0, 2)))
    rounded = Estimate(*map(np.asarray, (5.0, 5.0, np.nextafter(5.0, 6.0))))
    without = Estimate(*map(np.asarray, (5.0, np.nan, np.nan)))
    for found in (equal, rounded, without):
        assert not found.has_width
        assert not found.above(0)
        assert not found.below(9)
        assert not found.separate(wide)
        assert not wide.separate(found)
    assert not equal.separate(other)
    high = Estimate(*map(np.asarray, (4, 3, 5)))
    assert wide.separate(high)
    assert high.separate(wide)
    assert high.above(2)
    assert not high.above(3)
    assert wide.below(3)


@pytest.mark.parametrize(
    "scores", [np.zeros(3), np.zeros((2, 2, 2)), np.full((2, 2), np.nan), np.array([[np.inf, 1.0]])]
)
def test_what_is_no_matrix_of_scores_is_refused(scores):
    for aggregate in AGGREGATES:
        with pytest.raises(ValueError, match=r"score|run"):
            estimate(scores, Bootstrap(10), aggregate)
