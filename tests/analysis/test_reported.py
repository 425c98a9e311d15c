"""The share of runs that earned a verdict, and reported numbers beside ours."""

from pathlib import Path

from analysis.caveats import caveats
from analysis.load import load_results
from analysis.page import render
from analysis.reported import against_reported
from analysis.summary import Settings, summarise
from tests.analysis.synthetic import make_sweep

SMALL = {"tasks": ["minatar/breakout"], "seeds": 4, "paper": "The roles matter."}
FAST = Settings(replications=200, curve_replications=200)
REPORTED = {
    "Table 9": {"scorer": {"minatar/breakout": [8.0, 3.0]}, "dqn": {"minatar/breakout": [100.0, 1.0]}},
}


def test_verdicts_are_counted_by_variant_warned_of_and_shown(tmp_path: Path):
    folder = make_sweep(
        tmp_path,
        SMALL,
        verdicts=lambda run: ["collapsed"] if run.variant.base_name == "inverted" and run.config.seed else [],
    )
    summary = summarise(load_results(folder), FAST)
    assert summary.results.verdicts()["inverted"] == {"runs": 4, "collapsed": 3}
    assert summary.results.verdicts()["scorer"] == {"runs": 4}
    texts = [caution.text for caution in caveats(summary)]
    assert "Runs judged collapsed: inverted 3 of 4." in texts
    page = render(summary, {}, {"table": ""}, [], [], {})
    assert "3 of 4" in page
    assert "The paper: The roles matter." in page


def test_reported_numbers_stand_beside_ours(tmp_path: Path):
    summary = summarise(load_results(make_sweep(tmp_path, SMALL | {"reported": REPORTED})), FAST)
    scorer, dqn = against_reported(summary)
    assert (scorer.meets, dqn.meets) == (True, False)
    assert scorer.ours == summary.per_task["scorer", "minatar/breakout"]
    page = render(summary, {}, {"table": ""}, [], [], {})
    assert "100 ± 1" in page
    assert "intervals meet" in page


def test_a_reported_cell_without_runs_of_ours_is_said_to_be_missing(tmp_path: Path):
    folder = make_sweep(tmp_path, SMALL | {"reported": REPORTED}, absent=lambda run: run.variant.base_name == "dqn")
    assert [cell.ours is None for cell in against_reported(summarise(load_results(folder), FAST))] == [False, True]
