import numpy as np
import pytest

from analysis.coverage import BEGIN, END, SEEDS, draw, measure, renew, true_iqm
from analysis.statistics import iqm, ones


def test_the_truth_is_where_many_runs_end_up():
    scores = draw(np.random.default_rng(0), 3000)
    assert iqm(scores, ones(np.ones(scores.shape, bool)))[0] == pytest.approx(true_iqm(), rel=0.03)


def test_the_table_is_renewed_in_place(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}stale\n{END}after\n")
    renew(page, experiments=2)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}| seeds |")
    assert text.endswith(f"standard error 15.4 %.\n{END}after\n")
    assert "stale" not in text
    assert all(f"| {seeds} |" in text for seeds in SEEDS)


@pytest.mark.slow
def test_intervals_hold_as_often_as_they_say():
    """The bounds are the promised ones, loosened by three standard errors of 300 experiments."""
    found = {seeds: measure(seeds, 300) for seeds in SEEDS}
    for seeds, coverage in found.items():
        error = 3 * np.sqrt(0.95 * 0.05 / 300)
        least, most = (0.93, 0.97) if seeds >= 10 else (0.90, 1.0)
        assert least - error <= coverage.corrected <= most + error
    assert found[3].plain < 0.90  # what the correction is for
    assert found[10].false_family <= 0.08 + 3 * np.sqrt(0.08 * 0.92 / 300)
    assert found[10].false_family < found[10].false_alone
