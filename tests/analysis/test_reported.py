"""The number of runs with each verdict, and published numbers next to ours."""

from pathlib import Path

from analysis.caveats import caveats
from analysis.load import load_results
from analysis.page import render
from analysis.reported import against_reported
from analysis.summary import Settings, summarize
from tests.analysis.synthetic import make_sweep

SMALL = {"tasks": ["minatar/breakout"], "seeds": 4, "paper": "The roles matter."}
FAST = Settings(reps=200, curve_reps=200)
REPORTED = {
    "Table 9": {"scorer": {"minatar/breakout": [8.0, 3.0]}, "dqn": {"minatar/breakout": [100.0, 1.0]}},
}


def test_verdicts_are_counted_by_variant_warned_of_and_shown(tmp_path: Path):
    folder = make_sweep(
        tmp_path,
        SMALL,
        verdicts=lambda run: ["collapsed"] if run.variant.base_name == "inverted" and run.config.seed else [],
    )
    summary = summarize(load_results(folder), FAST)
    assert summary.results.verdicts()["inverted"] == {"runs": 4, "collapsed": 3}
    assert summary.results.verdicts()["scorer"] == {"runs": 4}
    texts = [caveat.text for caveat in caveats(summary)]
    assert "Runs with the verdict collapsed: inverted 3 of 4." in texts
    page = render(summary, {}, {}, [], {})
    assert "3 of 4" in page
    assert "The paper: The roles matter." in page


def test_reported_numbers_stand_beside_ours(tmp_path: Path):
    summary = summarize(load_results(make_sweep(tmp_path, SMALL | {"reported": REPORTED})), FAST)
    scorer, dqn = against_reported(summary)
    assert (scorer.overlaps, dqn.overlaps) == (True, False)
    assert scorer.ours == summary.per_task["scorer", "minatar/breakout"]
    page = render(summary, {}, {}, [], {})
    assert "100 ± 1" in page
    assert "overlap" in page


def test_a_reported_cell_without_runs_of_ours_is_said_to_be_missing(tmp_path: Path):
    folder = make_sweep(tmp_path, SMALL | {"reported": REPORTED}, absent=lambda run: run.variant.base_name == "dqn")
    assert [cell.ours is None for cell in against_reported(summarize(load_results(folder), FAST))] == [False, True]
