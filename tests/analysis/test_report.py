import csv
import html
import json
import re

import numpy as np
import pytest
from rich.console import Console

from analysis.caveats import caveats
from analysis.load import ReportError, load_results
from analysis.report import StrictError, make_report
from analysis.report_figures import figure_builders
from analysis.reported import against_reported
from analysis.style import styled
from analysis.summary import Settings, summarize
from analysis.tables import escape_latex, results_grid
from tests.analysis.synthetic import ODD_NAMES, make_sweep
from tools.page import DOCS

QUICK = Settings(reps=2000, curve_reps=200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_sweep(tmp_path_factory.mktemp("outputs"), {"seeds": 10})


@pytest.fixture(scope="module")
def report(folder):
    return make_report(folder, QUICK)


def test_the_report_says_what_was_put_in(report):
    assert "above dqn: scorer by" in report.answer
    assert "below dqn: inverted by" in report.answer
    assert report.warnings == []
    breakout = next(said for said in report.against_random if said.startswith("breakout"))
    assert "random policy (return 0.38): above: dqn" in breakout
    assert "scorer" in breakout


def test_every_file_is_there_and_says_how_it_was_made(report):
    names = {path.name for path in report.files}
    assert {"table.csv", "table.tex", "table.md", "captions.md"} <= names
    for figure in ("intervals", "improvement", "curves", "profiles", "losses", "diagnostics"):
        assert {f"{figure}.{suffix}" for suffix in ("pdf", "svg", "png", "json")} <= names
    assert all(path.stat().st_size > 0 for path in report.files)
    made = json.loads((report.folder / "intervals.json").read_text())
    assert made["runs"] == 60
    assert made["reps"] == 2000
    assert made["code_versions"] == ["c0ffee0123"]
    for said in ("10 seeds", "2,000 repetitions, seed 0", "0 is a random policy, 1 is the paper's DQN", "Dashed"):
        assert said in made["caption"]


def test_the_page_states_methods_once_and_the_files_of_a_figure_state_them_each(report):
    page = html.unescape((report.folder / "report.html").read_text())
    assert page.count("stratified bootstrap") == 1
    assert page.count("0 is a random policy") == 1
    assert (report.folder / "captions.md").read_text().count("stratified bootstrap") >= 5


def test_a_game_of_gymnax_is_not_titled_like_the_game_of_minatar(tmp_path):
    def labels(*tasks):
        (tmp_path / tasks[0]).mkdir(parents=True)
        summary = summarize(load_results(make_sweep(tmp_path / tasks[0], {"tasks": list(tasks), "seeds": 2})), QUICK)
        return [summary.task_label(task) for task in tasks]

    assert labels("minatar/space_invaders") == ["space invaders"]
    assert labels("gymnax/breakout") == ["gymnax/breakout"]
    assert labels("minatar/breakout", "gymnax/breakout") == ["minatar/breakout", "gymnax/breakout"]


def test_pdfs_hold_truetype_fonts(report):
    content = (report.folder / "curves.pdf").read_bytes()
    assert b"/Type3" not in content
    assert b"/FontFile2" in content


def test_equal_settings_give_equal_bytes(folder, report):
    before = {path: path.read_bytes() for path in report.files}
    again = make_report(folder, QUICK, figure="curves")
    assert len(again.files) == 4
    assert {path: path.read_bytes() for path in again.files}.items() <= before.items()


def test_the_tables_agree(report):
    console = Console(width=200, record=True)
    console.print(report.table)
    shown = console.export_text()
    rows = list(csv.DictReader((report.folder / "table.csv").read_text().splitlines()))
    scorer = next(row for row in rows if (row["variant"], row["task"]) == ("scorer", "minatar/breakout"))
    value = f"{float(scorer['value']):.2f}"
    assert value in shown
    assert value in (report.folder / "table.md").read_text()
    assert rf"\textbf{{{value}}}" in (report.folder / "table.tex").read_text()
    assert scorer["against_random"] == "above"


def test_what_is_missing_is_said_everywhere(tmp_path):
    folder = make_sweep(
        tmp_path,
        absent=lambda run: run.variant.name == "inverted",
        unfinished=lambda run: run.variant.name == "scorer" and run.config.seed > 2,
        diverged=lambda run: run.variant.name == "dqn" and run.config.seed == 0,
        commit=lambda pack: f"{pack}" * 16,
    )
    report = make_report(folder, QUICK, formats=["png"])
    said = " ".join(report.warnings)
    for what in (
        "14 of 30 runs are unfinished (10 not started, 4 partial) and excluded",
        "2 runs diverged and are included with the returns they logged: dqn 2",
        "Excluded from all figures (no finished run): inverted.",
        "The number of seeds differs (dqn 5, scorer 3)",
        "Only 3 seeds",
        "code versions are mixed",
    ):
        assert what in said
        assert what in (report.folder / "captions.md").read_text()
        assert what in json.loads((report.folder / "curves.json").read_text())["caption"]


def test_a_variant_without_one_of_the_tasks_is_kept_out_of_what_joins_them(tmp_path):
    folder = make_sweep(
        tmp_path, absent=lambda run: run.variant.name == "scorer" and run.config.task.endswith("asterix")
    )
    report = make_report(folder, QUICK, formats=["png"])
    assert "Excluded from all-task results (no finished run on at least one task): scorer." in report.warnings
    row = next(line for line in (report.folder / "table.md").read_text().splitlines() if "| scorer |" in line)
    assert row.count("–") == 5  # also in the column "result"
    assert "below dqn: inverted by" in report.answer


def test_two_seeds_are_reported_without_a_claim_in_every_text(tmp_path):
    report = make_report(make_sweep(tmp_path, {"seeds": 2, "tasks": ["minatar/breakout"]}), QUICK, formats=["png"])
    words = "too few seeds (2 seeds: not simulated)"
    assert f"No claim about scorer, inverted: {words}." in report.answer
    assert re.search(r"scorer minus dqn \d\S* \[\S+, \S+\]", report.answer)
    assert "above dqn" not in report.answer
    table = (report.folder / "table.md").read_text()
    assert next(line for line in table.splitlines() if line.startswith("| scorer |")).count("too few seeds") == 1
    for text in (table, (report.folder / "table.tex").read_text(), (report.folder / "report.html").read_text()):
        assert words in text
    assert words in json.loads((report.folder / "improvement.json").read_text())["caption"]
    assert words in (report.folder / "table.csv").read_text()


def test_runs_that_are_all_equal_are_separated_from_nothing(tmp_path):
    """Every variant's interval has no width. Before, each was "above" a random policy and the highest was bold."""
    levels = {"dqn": 4.0, "scorer": 8.0, "inverted": 2.0}
    reported = {"Table 9": {"scorer": {"minatar/breakout": [9.0, 0.5]}, "dqn": {"minatar/breakout": [4.0, 0.5]}}}
    folder = make_sweep(
        tmp_path,
        {"seeds": 5, "tasks": ["minatar/breakout"], "reported": reported},
        curve=lambda run, steps: np.full(len(steps), levels[run.variant.name]),
    )
    summary = summarize(load_results(folder), QUICK)
    assert set(summary.against_random.values()) == {"not significant"}
    assert not any(cell.best for row in results_grid(summary).rows for cell in row)
    assert {comparison.result for comparison in summary.comparisons} == {"not significant"}
    assert [cell.overlaps for cell in against_reported(summary)] == [None, True]


def test_strict_refuses_what_it_would_have_to_warn_of_and_writes_nothing(tmp_path):
    folder = make_sweep(tmp_path, {"seeds": 3})
    with pytest.raises(StrictError, match="Only 3 seeds"):
        make_report(folder, QUICK, strict=True)
    assert not (folder / "report").exists()


def test_one_figure_at_a_venue_s_width(folder, tmp_path):
    report = make_report(folder, QUICK, figure="profiles", venue="icml", formats=["png"])
    assert [path.name for path in report.files] == ["profiles.png", "profiles.json"]
    width = int.from_bytes(report.files[0].read_bytes()[16:20], "big")
    assert width == round(3.25 * 200)
    with pytest.raises(ReportError, match="nonsense: not a figure of this sweep; choose from: intervals, improvement"):
        make_report(folder, QUICK, figure="nonsense")


def test_axes_call_for_figures_of_their_own(tmp_path):
    overrides = {
        "variants": {"dqn": {"coupling": "monolithic"}, "scorer": {}},
        "axes": {"ratio": [0.5, 5], "gamma": [0.9, 0.99]},
        "tasks": ["minatar/breakout"],
    }
    summary = summarize(load_results(make_sweep(tmp_path, overrides)), QUICK)
    assert list(figure_builders(summary)) == [
        "intervals",
        "improvement",
        "gamma",
        "ratio",
        "ratio-gamma",
        "curves",
        "profiles",
    ]
    described = (DOCS / "results.md").read_text().partition("| figure |")[2].partition("\n\n")[0]
    drawn = [name for name in figure_builders(summary) if not {"ratio", "gamma"} & set(name.split("-"))]
    assert re.findall(r"^\| `(\w+)` \|", described, re.MULTILINE) == [*drawn, "losses", "diagnostics"]
    with styled():
        ratio, crossed = (figure_builders(summary)[name](summary, "iclr") for name in ("ratio", "ratio-gamma"))
    assert ratio.figure.axes[0].get_xscale() == "log"
    assert "Band: dqn" in ratio.caption
    assert len(crossed.figure.axes[0].texts) == 4


@pytest.mark.parametrize(
    "overrides",
    [
        {"variants": {}, "baseline": None},
        {"tasks": ["minatar/seaquest"], "seeds": 1},
        {"tasks": ["minatar/seaquest"]},
        {"tasks": ["minatar/seaquest"], "variants": {}, "baseline": None, "seeds": 1},
        {"tasks": ["minatar/seaquest"], "base": {"log_points": 1}},
    ],
)
def test_small_sweeps_are_reported(tmp_path, overrides):
    report = make_report(make_sweep(tmp_path, overrides, parts=1), QUICK, formats=["png"])
    assert report.answer
    assert (report.folder / "intervals.png").exists()


def test_a_sweep_without_a_finished_run_is_one_clear_message(tmp_path):
    folder = make_sweep(tmp_path, unfinished=lambda _: True)
    with pytest.raises(ReportError, match="no finished run to report on; of 30 runs, 0 not started, 30 unfinished"):
        make_report(folder)
    empty = make_sweep(tmp_path / "empty", absent=lambda _: True)
    with pytest.raises(ReportError, match="30 not started"):
        make_report(empty)


def without_episodes(run, steps):
    """No return in the first fifth of training; seed 1 of scorer and all of inverted never finish an episode."""
    never = run.variant.name == "inverted" or (run.variant.name == "scorer" and run.config.seed == 1)
    return np.where(never | (steps <= 20_000 * (1 + run.config.seed % 2)), np.nan, -500 + steps / 1000)


def test_runs_that_never_finished_an_episode_are_named_and_the_others_drawn(tmp_path):
    folder = make_sweep(tmp_path, {"tasks": ["Acrobot-v1", "CartPole-v1"]}, curve=without_episodes)
    report = make_report(folder, QUICK, formats=["png"])
    never = (
        "12 runs never finished an episode and have no score: scorer on Acrobot-v1, seed 1; scorer on CartPole-v1, "
        "seed 1; inverted on Acrobot-v1, seed 0; inverted on Acrobot-v1, seed 1"
    )
    assert report.warnings[0].startswith(never)
    assert "Excluded from all figures (no score): inverted." in report.warnings
    assert never in (report.folder / "captions.md").read_text()
    summary = summarize(load_results(folder), QUICK)
    assert summary.raw.keys() == {"dqn", "scorer"}
    steps = summary.results.steps
    drawn = np.isfinite(summary.curves["dqn", "Acrobot-v1"].value)
    assert steps[drawn][0] == 25_000
    assert drawn[steps >= 25_000].all()
    assert {time.reached for times in summary.times.values() for time in times if time.threshold > -400} <= {0}


def test_runs_whose_rewards_are_not_finite_are_not_said_to_have_finished_no_episode(tmp_path):
    def broken(run):
        return run.variant.name == "inverted"

    def curve(run, steps):
        late = run.variant.name == "scorer" and steps > 80_000
        return np.where(broken(run) | late, np.nan, steps / 1000)

    folder = make_sweep(tmp_path, curve=curve, diverged=broken)
    warnings = make_report(folder, QUICK, figure="curves", formats=["png"]).warnings
    assert any(text.startswith("10 runs diverged without a finite return and have no score: inv") for text in warnings)
    assert any(
        text.startswith("10 runs have no finite return in the last 10 % of training and no final score: scorer on")
        for text in warnings
    )
    assert not any("finished an episode" in text for text in warnings)


def test_variants_that_are_the_same_runs_are_named(tmp_path):
    variants = {"dqn": {"coupling": "monolithic"}, "each": {"update_every": 1}, "scorer": {}, "never": {"ratio": 3}}
    folder = make_sweep(tmp_path, {"variants": variants, "seeds": 2})
    warnings = make_report(folder, QUICK, figure="intervals", formats=["png"]).warnings
    assert "These variants are the same runs, because their settings are equivalent: each, scorer." in warnings


@pytest.mark.parametrize(
    ("without", "answer"),
    [
        (["dqn"], "the highest; there is no comparison, because the baseline dqn has no score on some task."),
        (["dqn", "inverted"], "the only variant with a score on every task."),
    ],
)
def test_the_answer_says_which_variants_have_no_score(tmp_path, without, answer):
    def curve(run, steps):
        return np.where(run.variant.name in without, np.nan, steps / 1000)

    report = make_report(make_sweep(tmp_path, curve=curve), QUICK, figure="intervals", formats=["png"])
    assert report.answer.endswith(answer)


@pytest.mark.parametrize("score", ["final", "best", "auc"])
def test_a_return_of_zero_is_not_made_up_before_the_first_episode(tmp_path, score):
    folder = make_sweep(tmp_path, {"tasks": ["Acrobot-v1"]}, curve=without_episodes)
    settings = Settings(score=score, reps=200, curve_reps=50, thresholds={"Acrobot-v1": [-450.0, -100.0]})
    summary = summarize(load_results(folder), settings)
    assert float(summary.per_task["dqn", "Acrobot-v1"].value) < -380
    assert [float(time.steps.value) for time in summary.times["dqn", "Acrobot-v1"]] == [50_000, np.inf]


def test_zeros_before_the_first_episode_are_named_where_a_definition_asks_for_them(tmp_path):
    folder = make_sweep(
        tmp_path,
        {"base": {"num_envs": 16, "update_every": 16, "log_points": 20, "return_before_first_episode": "zero"}},
    )
    texts = [caveat.text for caveat in caveats(summarize(load_results(folder), QUICK))]
    assert any("return_before_first_episode: zero): dqn, inverted, scorer." in text for text in texts)


def test_a_sweep_in_which_no_run_finished_an_episode_is_one_line(tmp_path):
    folder = make_sweep(tmp_path, curve=lambda _, steps: np.full(len(steps), np.nan))
    with pytest.raises(ReportError, match=r"no finished run to report on.*30 finished without a score"):
        make_report(folder, QUICK)


def test_names_that_are_no_valid_latex_are_drawn_as_they_are_written(tmp_path):
    odd = {"variants": {name: {} for name in ODD_NAMES[:2]}, "baseline": ODD_NAMES[0], "tasks": ["minatar/breakout"]}
    odd["axes"] = {"ratio": [1, 2], "follower_weight": [0.5, 1.0]}
    folder = make_sweep(tmp_path, {**odd, "seeds": 2})
    report = make_report(folder, Settings(reps=200, curve_reps=50), formats=["png"])
    drawn = {path.name for path in report.files}
    assert {"intervals.png", "improvement.png", "curves.png", "ratio.png", "ratio-follower_weight.png"} <= drawn
    assert escape_latex(ODD_NAMES[0]) in (report.folder / "table.tex").read_text(encoding="utf-8")
