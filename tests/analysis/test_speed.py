"""Side by side with rliable in one process, in seconds of its processor: what else the machine does does not count.

rliable's calls are timed on one variant and fewer replications, and scaled: both are plain factors of its time. Ours
are timed in full.
"""

import os

import numpy as np
import pytest
from rliable import library, metrics

from analysis import rliable_exact
from analysis.comparisons import compare
from analysis.curves import curve_iqm
from analysis.report import make_report
from analysis.statistics import AGGREGATE_NAMES, Bootstrap, estimate, profile
from tests.analysis.synthetic import make_sweep

VARIANTS, SEEDS, TASKS, POINTS = 8, 30, 5, 100
pytestmark = pytest.mark.slow


def seconds(call):
    """Of processors, this process's and its finished children's: what else the machine does counts little."""
    start = sum(os.times()[:4])
    call()
    return sum(os.times()[:4]) - start


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    return {str(i): rng.lognormal(size=(SEEDS, TASKS)) for i in range(VARIANTS)}


def iqm(matrix):
    return np.array([metrics.aggregate_iqm(matrix)])


def all_four(matrix):
    return np.array([rliable_exact.EXACT[aggregate](matrix) for aggregate in AGGREGATE_NAMES])


def test_iqm_at_50_000_replications(scores):
    one = {"0": scores["0"]}
    theirs = VARIANTS * 10 * seconds(lambda: library.get_interval_estimates(one, iqm, reps=5000))
    compatible = seconds(lambda: rliable_exact.interval_estimates(scores))
    bootstrap = Bootstrap()
    ours = seconds(lambda: [estimate(matrix, bootstrap) for matrix in scores.values()])
    print(f"\nIQM: rliable {theirs:.1f} s; compatible {theirs / compatible:.0f} times, ours {theirs / ours:.0f} times")
    assert theirs / compatible >= 50
    assert theirs / ours >= 100


def test_the_statistics_of_a_whole_report(scores):
    rng = np.random.default_rng(1)
    thresholds = np.linspace(0, 4, 101)
    curve = rng.normal(size=(SEEDS, TASKS, POINTS))
    one, pair = {"0": scores["0"]}, {"1,0": [scores["1"], scores["0"]]}

    def each_step(array):
        return np.array([metrics.aggregate_iqm(array[..., step]) for step in range(POINTS)])

    def better(x, y):
        return np.array([metrics.probability_of_improvement(x, y)])

    theirs = VARIANTS * (
        50 * seconds(lambda: library.get_interval_estimates(one, all_four, reps=1000))
        + 10 * seconds(lambda: library.create_performance_profile(one, thresholds, reps=200))
        + 40 * seconds(lambda: library.get_interval_estimates({"0": curve}, each_step, reps=50))
    ) + (VARIANTS - 1) * 10 * seconds(lambda: library.get_interval_estimates(pair, better, reps=200))

    def report():
        many, fast = Bootstrap(), Bootstrap(2000)
        for matrix in scores.values():
            for aggregate in AGGREGATE_NAMES:
                estimate(matrix, many, aggregate)
            profile(matrix, thresholds, fast)
            curve_iqm(curve, fast)
        compare(scores, {name: None if name == "0" else "0" for name in scores}, fast)

    ours = seconds(report)
    print(f"\nwhole report: rliable {theirs:.0f} s, ours {ours:.1f} s: {theirs / ours:.0f} times")
    assert theirs / ours >= 40


def test_a_report_of_1_000_runs_takes_less_than_the_iqm_intervals_of_rliable_alone(tmp_path):
    games = [f"minatar/{game}" for game in ("asterix", "breakout", "freeway", "seaquest", "space_invaders")]
    variants = {f"v{i}": {"leader_lr": 1e-4 * (1 + i / 100)} for i in range(10)}
    overrides = {"tasks": games, "seeds": 20, "baseline": "v0", "variants": variants, "base": {"log_points": 100}}
    folder = make_sweep(tmp_path, overrides, lanes=100, parts=5)
    one = {"0": np.random.default_rng(0).lognormal(size=(20, len(games)))}
    theirs = len(variants) * 10 * seconds(lambda: library.get_interval_estimates(one, iqm, reps=5000))
    taken = seconds(lambda: make_report(folder))
    print(f"\n1,000 runs x 100 points: {taken:.0f} s; rliable's IQM intervals alone: {theirs:.0f} s")
    assert taken < theirs
