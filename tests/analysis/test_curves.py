import numpy as np
import pytest

from analysis.curves import curve_iqm, times_to_thresholds
from analysis.statistics import Bootstrap, estimate

STEPS = np.arange(1, 21) * 1000
BOOTSTRAP = Bootstrap(1000)


def rising(seeds=12, tasks=2, noise=0.1):
    rng = np.random.default_rng(5)
    level = np.exp(0.3 * rng.normal(size=(seeds, tasks, 1)))
    return level * (STEPS / STEPS[-1]) + noise * rng.normal(size=(seeds, tasks, len(STEPS)))


def test_a_curve_is_the_aggregate_at_each_step():
    curves = rising()
    curves[3, 1] = np.nan
    found = curve_iqm(curves, BOOTSTRAP)
    for step in (0, 7, 19):
        alone = estimate(curves[..., step], BOOTSTRAP)
        np.testing.assert_allclose([part[step] for part in found], alone, rtol=1e-12)


def test_each_step_has_the_runs_that_have_a_value_there():
    curves = rising()
    curves[:4, 0, :3] = np.nan  # before their first episode
    curves[7, :, 15:] = np.nan  # a run that ends early
    found = curve_iqm(curves, BOOTSTRAP)
    for step in (0, 2, 3, 14, 15, 19):
        alone = estimate(curves[..., step], BOOTSTRAP)
        np.testing.assert_allclose([part[step] for part in found], alone, rtol=1e-12)


@pytest.mark.parametrize("together", [False, True])
def test_a_step_without_a_run_on_every_task_has_no_value(together):
    curves = rising()
    curves[:, 1, :5] = np.nan
    curves[1:, :, 18:] = np.nan
    found = curve_iqm(curves, BOOTSTRAP, together)
    assert np.isnan([part[:5] for part in found]).all()
    assert np.isfinite([part[5:18] for part in found]).all()
    assert np.isfinite(found.value[18:]).all()
    assert np.isnan([found.low[18:], found.high[18:]]).all()  # one run


def test_rows_without_a_value_do_not_reach_a_threshold():
    curves = np.broadcast_to(STEPS / 1000 - 30, (6, 1, 20)).copy()
    curves[:, :, :3] = np.nan
    curves[0, :, :6] = np.nan
    at_once, later = times_to_thresholds(curves, STEPS, [-100, -20], BOOTSTRAP)
    assert tuple(map(float, at_once.steps)) == (4000, 4000, 4000)
    assert tuple(map(float, later.steps)) == (10_000, 10_000, 10_000)
    assert (later.reached, later.runs) == (6, 6)


def test_a_threshold_that_one_run_reaches_alone_has_no_interval():
    curves = rising(seeds=4, tasks=1, noise=0)
    curves[1:, :, :10] = np.nan
    first, last = times_to_thresholds(curves, STEPS, [0.01, 99], BOOTSTRAP)
    assert np.isfinite(first.steps.value)
    assert np.isnan(first.steps.low)
    assert np.isinf(last.steps.high)
    assert last.reached == 0


def test_a_band_for_all_steps_together_is_wider_than_a_pointwise_one():
    pointwise, together = (curve_iqm(rising(), BOOTSTRAP, both) for both in (False, True))
    widths = [np.mean(band.high - band.low) for band in (pointwise, together)]
    assert 1.1 < widths[1] / widths[0] < 2.5
    np.testing.assert_array_equal(pointwise.value, together.value)


def test_whole_runs_are_drawn_so_an_area_s_interval_keeps_the_runs_spread():
    """Resampling each step by itself would make it narrower by the square root of the number of steps."""
    curves = rising(seeds=30, tasks=1)
    area = estimate(curves.mean(axis=2), BOOTSTRAP, "mean")
    spread = curves.mean(axis=2).std(ddof=1) / np.sqrt(30)
    assert float(area.high - area.low) == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_time_to_threshold_is_the_first_step_there():
    curves = np.broadcast_to(STEPS / 1000, (6, 1, 20)).copy()
    (time,) = times_to_thresholds(curves, STEPS, [7], BOOTSTRAP)
    assert tuple(map(float, time.steps)) == (7000, 7000, 7000)
    assert (time.reached, time.runs) == (6, 6)


def test_what_is_never_reached_takes_for_ever_and_an_interval_may_end_there():
    curves = rising(noise=0.02)[:, :1]
    never, sometimes = times_to_thresholds(curves, STEPS, [99, float(np.median(curves[..., -1]))], BOOTSTRAP)
    assert np.isinf(never.steps.value)
    assert never.reached == 0
    assert np.isfinite(sometimes.steps.low)
    assert np.isinf(sometimes.steps.high)
    assert 0 < sometimes.reached < sometimes.runs


def test_one_run_has_a_curve_and_a_time_without_intervals():
    curves = rising(seeds=1, tasks=1, noise=0)
    assert np.isnan(curve_iqm(curves, BOOTSTRAP).low).all()
    (time,) = times_to_thresholds(curves, STEPS, [0.1], BOOTSTRAP)
    assert np.isfinite(time.steps.value)
    assert np.isnan(time.steps.low)


def test_a_task_with_a_single_run_gives_a_curve_and_a_time_without_intervals():
    curves = rising(seeds=6)
    curves[1:, 1] = np.nan
    for together in (False, True):
        band = curve_iqm(curves, BOOTSTRAP, together)
        assert np.isfinite(band.value).all()
        assert np.isnan(band.low).all()
    (time,) = times_to_thresholds(curves, STEPS, [0.1], BOOTSTRAP)
    assert np.isfinite(time.steps.value)
    assert np.isnan([time.steps.low, time.steps.high]).all()
