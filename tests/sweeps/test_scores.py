"""Scores of runs and trials, most of all of runs that have no return yet."""

import numpy as np
import pytest

from scorer_core.scores import auc, best, final, steps_to_threshold
from sweeps import scores
from tests.search_synthetic import search_of

NAN = float("nan")
STEPS = np.array([1000, 2000, 3000, 4000])


def test_rows_before_the_first_finished_episode_are_left_out_of_every_score():
    """Acrobot: -1 per step, 500 steps per episode; 0 in the first row would be the best return and the earliest."""
    returns = np.array([NAN, -500.0, -300.0, -100.0])
    assert best(returns) == -100
    assert final(STEPS, returns, 4000) == -100
    assert auc(STEPS, returns) == (-400 - 200) / 2
    assert steps_to_threshold(STEPS, returns, -100) == 4000
    assert steps_to_threshold(STEPS, returns, -400) == 3000


def test_a_run_that_never_finished_an_episode_has_no_score():
    returns = np.full(4, NAN)
    assert np.isnan([best(returns), final(STEPS, returns, 4000), auc(STEPS, returns)]).all()
    assert np.isnan(steps_to_threshold(STEPS, returns, -1e9))


def test_a_score_of_a_complete_curve_is_its_mean_at_the_end_its_area_and_its_first_step_at_the_threshold():
    steps, returns = np.arange(1, 101) * 100, np.arange(1, 101) / 10
    assert final(steps, returns, 10_000) == pytest.approx(returns[-10:].mean())
    assert auc(steps, returns) == pytest.approx(np.trapezoid(returns, steps) / 9900)
    assert steps_to_threshold(steps, returns, 5.0) == 5000


@pytest.mark.parametrize(
    ("objective", "at_rung", "at_end"),
    [("iqm_final", NAN, 2.0), ("auc", NAN, 1.5), ({"time_to_threshold": 0.5}, 1500.0, 3000.0)],
)
def test_at_a_rung_a_run_without_a_return_has_no_score_but_has_not_reached_its_threshold(objective, at_rung, at_end):
    search = search_of(seeds=1, objective=objective)
    runs = search.runs({"ratio": 1.0})
    curves = {runs[0].run_id: (STEPS, np.array([NAN, NAN, 1.0, 2.0]))}
    assert scores.blocks(search, runs, curves, 1500)[0] == pytest.approx([at_rung], nan_ok=True)
    assert scores.blocks(search, runs, curves, 4000)[0] == pytest.approx([at_end])


def test_at_a_rung_between_two_logged_steps_the_last_row_counts_and_at_the_end_it_does_not():
    search = search_of(seeds=1)
    runs = search.runs({"ratio": 1.0})
    short = {runs[0].run_id: (STEPS[:2], np.array([1.0, 3.0]))}
    assert scores.blocks(search, runs, short, 2900)[0] == [3.0]
    assert np.isnan(scores.blocks(search, runs, short, 4000)).all(), "the end of the run is missing"


def test_one_run_without_a_score_leaves_its_trial_without_one_however_many_runs_there_are():
    assert np.isnan(scores.iqm(np.array([1.0, 2.0, 3.0, 4.0, NAN])))
    assert scores.iqm(np.array([1.0, 2.0, 3.0, 100.0])) == 2.5


def test_the_reason_for_a_missing_score_names_the_run_and_is_true():
    search = search_of(seeds=2)
    first, second = runs = search.runs({"ratio": 1.0})
    whole = STEPS, np.ones(4)

    def why(curve: scores.Curve | None) -> str:
        curves = {first.run_id: whole} | ({second.run_id: curve} if curve else {})
        return scores.why_no_score(runs, curves, scores.blocks(search, runs, curves, 4000))

    name = f"run {second.run_id} (minatar/breakout, seed 1)"
    assert why(None) == f"{name} has no logged rows"
    assert why((STEPS, np.full(4, NAN))) == (
        f"{name} has no return in 4,000 steps: no episode ended (raise total_steps), or a reward was not finite"
    )
    assert why((STEPS[:2], np.ones(2))) == (
        f"{name} has no return in the last 10% of training; its last row is at step 2,000"
    )
    assert why((STEPS, np.full(4, np.inf))) == why((STEPS, np.full(4, NAN)))


def test_a_return_that_is_infinite_is_left_out_of_every_score():
    returns = np.array([1.0, 2.0, np.inf, -np.inf])
    assert best(returns) == 2
    assert final(STEPS, returns, 2000) == 2
    assert np.isnan(final(STEPS, returns, 4000))
    assert auc(STEPS, returns) == 1.5
    assert np.isnan(steps_to_threshold(STEPS, returns, 3.0))
